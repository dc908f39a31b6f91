"""A sidecar's report with only what a test is about."""

from __future__ import annotations

from llmservice_api.status_report import (
    EngineReport,
    PredictorReport,
    QueueReport,
    StatusReport,
)


def report(
    state: str = "Ready",
    *,
    calibrated: bool | None = True,
    tau: float = 0.5,
    backlog_s: float = 0.0,
    queued: int = 0,
) -> StatusReport:
    """A healthy replica's report; the predictor is as told."""
    queue = QueueReport(
        policy="SSJF",
        order="SSJF",
        queued_requests=queued,
        queued_tokens=0.0,
        in_flight_slots=0,
        limit_slots=4,
        backlog_s=backlog_s,
        gamma_per_s=0.0,
    )
    predictor = PredictorReport(
        mode="Enforce", kind="Default", state=state, calibrated=calibrated, tau=tau, samples=300
    )
    return StatusReport(
        generation_applied=3,
        static_hash="",
        ready=True,
        draining=False,
        engine=EngineReport(healthy=True),
        queue=queue,
        predictor=predictor,
    )
