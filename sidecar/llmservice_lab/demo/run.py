"""The demo from a ready server to its three files. Starts no process, draws nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
from llmservice_sidecar.runtime import telemetry_names as names

from llmservice_lab.calls import CallFactory, common_max_tokens, first_model, probe_forcing
from llmservice_lab.demo import spans as otlp
from llmservice_lab.demo.passes import Measurement, Measurer, PassFailed, Server
from llmservice_lab.demo.receiver import SpanReceiver
from llmservice_lab.demo.records import CLIENT_SERVICE, Record, client_spans, join
from llmservice_lab.demo.report import render
from llmservice_lab.demo.summary import Provenance, Summary, summarise_demo
from llmservice_lab.load import LoadClient
from llmservice_lab.progress import Stage
from llmservice_lab.workload import WorkloadRequest

_REQUEST_TIMEOUT_S: Final = 300.0
_SPANS_TIMEOUT_S: Final = 20.0
_POLL_S: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoFiles:
    """What a demo leaves behind."""

    report: Path
    traces: Path
    summary: Path

    @classmethod
    def under(cls, directory: Path) -> DemoFiles:
        """The stable names in a directory."""
        return cls(
            report=directory / "report.html",
            traces=directory / "traces.json",
            summary=directory / "summary.json",
        )


async def measure(
    server: Server,
    rows: Sequence[WorkloadRequest],
    *,
    predictors: Sequence[str],
    receiver: SpanReceiver,
    stage: Stage,
) -> Measurement:
    """Capacity and all passes, and every span of them received. Raises PassFailed."""
    target = await server.start_over(predictors[0])
    async with LoadClient(target, timeout_s=_REQUEST_TIMEOUT_S) as client:
        try:
            model = await first_model(client)
            forcing = await probe_forcing(client, model=model)
        except (aiohttp.ClientError, LookupError, TimeoutError, ValueError) as error:
            raise PassFailed(f"the server does not serve: {error}") from error
        if not forcing.works:
            raise PassFailed(f"answers would not have their recorded lengths: {forcing.reason}")
        factory = CallFactory(model=model, max_tokens=common_max_tokens(rows), force_lengths=True)
        measurer = Measurer(
            client, server, rows=rows, factory=factory, predictors=predictors, stage=stage
        )
        measurement = await measurer.run()
    wanted = {reply.trace_id for one in measurement.passes for reply in one.replies}
    await _await_spans(receiver, wanted)
    return measurement


def conclude(
    measurement: Measurement,
    *,
    payloads: Sequence[bytes],
    provenance: Provenance,
    files: DemoFiles,
) -> Summary:
    """Join, summarise, write report, traces and summary. Raises TraceIncomplete."""
    spans = otlp.decode(payloads)
    rows = measurement.rows
    passes: list[list[Record]] = [join(one, rows=rows, spans=spans) for one in measurement.passes]
    summary = summarise_demo(measurement, passes, provenance)
    # The report is of the first predictor; what the others come to is a line each.
    first = [records for records in passes if records[0].predictor == passes[0][0].predictor]
    files.report.write_text(render(summary, first))
    files.summary.write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")
    own = [span for one in measurement.passes for span in client_spans(one, rows=rows)]
    trace_ids = {span.trace_id for span in own}
    otlp.write_traces(
        files.traces,
        [
            otlp.client_resource_spans(own, service=CLIENT_SERVICE),
            *otlp.to_otlp_json(payloads, trace_ids=trace_ids),
        ],
    )
    return summary


async def _await_spans(receiver: SpanReceiver, trace_ids: Collection[str]) -> None:
    """Until both programs have sent their last span of these traces, or for 20 s.

    What is missing after that is named when the traces are joined.
    """
    deadline = time.monotonic() + _SPANS_TIMEOUT_S
    missing = {(trace_id, part) for trace_id in trace_ids for part in ("door", "engine")}
    seen = 0
    while missing and time.monotonic() < deadline:
        fresh = receiver.payloads[seen:]
        seen += len(fresh)
        for span in otlp.decode(fresh):
            if span.name == names.SPAN_ENGINE_OWN:
                missing.discard((span.trace_id, "engine"))
            elif names.ATTR_DOOR in span.attributes:
                missing.discard((span.trace_id, "door"))
        await asyncio.sleep(_POLL_S)
