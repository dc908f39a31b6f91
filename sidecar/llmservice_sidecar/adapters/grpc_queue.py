"""The queue as gRPC messages."""

from __future__ import annotations

import math

from google.protobuf.duration_pb2 import Duration
from llmservice_api.status_report import QueueReport

from llmservice_sidecar.runtime.call import Place
from llmservice_sidecar.wire.llmservice.inference.v1alpha1 import inference_pb2 as pb


def queue_state(report: QueueReport, *, request: pb.Queued | None) -> pb.QueueState:
    """The queue now, with the place of the request that was asked for."""
    return pb.QueueState(
        policy=report.policy,
        order=report.order,
        queued_requests=report.queued_requests,
        queued_tokens=report.queued_tokens,
        in_flight_slots=report.in_flight_slots,
        limit_slots=report.limit_slots,
        backlog=duration(report.backlog_s),
        request=request,
    )


def queued(place: Place, *, backlog_s: float) -> pb.Queued:
    """A place in the queue. Where no start is predicted, the backlog is the cautious guess."""
    standing, eta_s = place.standing, place.predicted_wait_s
    message = pb.Queued(position=standing.position, depth=standing.depth)
    if eta_s is None and backlog_s > 0:
        eta_s = backlog_s
    if eta_s is not None:
        message.eta.CopyFrom(duration(eta_s))
    bound_s = standing.overtaking_bound_s
    if bound_s is not None and math.isfinite(bound_s):
        message.overtaking_bound.CopyFrom(duration(bound_s))
    return message


def duration(seconds: float) -> Duration:
    """Seconds as protobuf has them, to the microsecond."""
    made = Duration()
    made.FromMicroseconds(round(seconds * 1e6))
    return made
