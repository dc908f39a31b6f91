"""The demo's server: the example's service as local processes, made fit for a fair comparison."""

from __future__ import annotations

import asyncio
import copy
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import aiohttp
import msgspec
import uvloop
from llmservice_api.sidecar_config import PredictorConfig
from llmservice_api.status_report import StatusReport, decode_report
from llmservice_lab import provenance
from llmservice_lab.demo.passes import DEFAULT, Measurement, PassFailed, Server
from llmservice_lab.demo.receiver import SpanReceiver
from llmservice_lab.demo.records import TraceIncomplete
from llmservice_lab.demo.run import DemoFiles, conclude, measure
from llmservice_lab.demo.summary import Provenance, Summary
from llmservice_lab.gains import ORACLE
from llmservice_lab.predictors.recorded import write_recorded
from llmservice_lab.pretrain import pretrain
from llmservice_lab.workload import WorkloadError, WorkloadRequest, load_workload
from llmservice_sidecar.adapters.predictors.proxies.onnx_proxy import OnnxProxy

from llmservice_local.console import note, progress_bar, waiting
from llmservice_local.errors import CommandError
from llmservice_local.running import RunningPod, running_pod
from llmservice_local.service import (
    ENGINE_MODULES,
    Document,
    LocalOptions,
    LocalService,
    plan_service,
    read_document,
)

_PREDICTOR_DIRECTORY: Final = "/models/predictor"
_SNAPSHOT: Final = "snapshot.json"
_APPLY_TIMEOUT_S: Final = 15.0
_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What is run, on what, and where the files go."""

    out: Path
    file: Path
    workload: Path
    train: Path
    seed: int
    predictors: Sequence[str] = (DEFAULT,)  # the first is what the table compares


def run_demo(options: DemoOptions) -> Summary:
    """The whole demo. Raises CommandError; figures that cannot be trusted are in `failures`."""
    rows = _rows(options.workload)
    directory = (options.out / "run").resolve()
    shutil.rmtree(directory, ignore_errors=True)
    learned = directory / "predictor"
    learned.mkdir(parents=True)
    with SpanReceiver() as receiver:
        document = fair_document(read_document(options.file), collector=receiver.endpoint)
        local = LocalOptions(directory=directory, mounts={_PREDICTOR_DIRECTORY: str(learned)})
        with waiting("preparing vLLM and the tiny model"):
            service = plan_service(document, local, log=note)
        _pretrain(options.train, learned / _SNAPSHOT, model=service.plan.static.model.name)
        configs = predictor_configs(
            options.predictors, service.plan.static.predictor, rows=rows, directory=directory
        )
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                measurement = runner.run(
                    _measure(service, rows, configs, directory=directory, receiver=receiver)
                )
            return conclude(
                measurement,
                payloads=receiver.payloads,
                provenance=_provenance(service, options),
                files=DemoFiles.under(options.out),
            )
        except (PassFailed, TraceIncomplete) as error:
            raise CommandError(
                str(error), next_step=f"see the logs in {directory}, then run it again"
            ) from error


def fair_document(document: Document, *, collector: str) -> Document:
    """The example with what the comparison needs: a learned predictor that learns no more, traces.

    The same prompts are replayed in every pass: a predictor that kept learning would know their
    lengths from the first one, and a prefix cache would serve the later ones faster.
    """
    fair = copy.deepcopy(document)
    spec: dict[str, Any] = fair["spec"]
    spec["predictor"] = {
        **spec.get("predictor", {}),
        "uri": f"file://{_PREDICTOR_DIRECTORY}/{_SNAPSHOT}",
        "onlineLearning": "Disabled",
    }
    spec["tracing"] = {"exporterEndpoint": collector, "sampler": "parentbased_always_on"}
    engine: dict[str, Any] = spec["engine"]
    engine["args"] = [*engine.get("args", ()), "--no-enable-prefix-caching"]
    engine["env"] = [
        *engine.get("env", ()),
        {"name": "OTEL_BSP_SCHEDULE_DELAY", "value": "1000"},  # ms: the last spans come soon
    ]
    return fair


def predictor_configs(
    predictors: Sequence[str],
    default: PredictorConfig,
    *,
    rows: Sequence[WorkloadRequest],
    directory: Path,
) -> dict[str, PredictorConfig]:
    """How a sidecar loads each of them; `oracle` is a table of the rows' lengths in `directory`.

    Raises CommandError naming a predictor that cannot be loaded.
    """
    found: dict[str, PredictorConfig] = {}
    for name in predictors:
        if name == DEFAULT:
            found[name] = default
            continue
        try:
            folder = _recorded(rows, directory / ORACLE) if name == ORACLE else Path(name).resolve()
            OnnxProxy.load(folder)
        except (OSError, ValueError, ImportError) as error:
            raise CommandError(
                f"--predictor {name}: {error}",
                next_step=f"name {DEFAULT}, {ORACLE}, or a folder that `llmservice train` wrote",
            ) from error
        uri = folder.as_uri()
        found[name] = msgspec.structs.replace(default, kind="FineTuned", uri=uri)
    return found


def _recorded(rows: Sequence[WorkloadRequest], directory: Path) -> Path:
    lengths: dict[str, list[int]] = {}
    for row in rows:
        if row.prompt:
            lengths.setdefault(row.prompt, []).append(row.output_tokens)
    return write_recorded(directory, {prompt: fmean(each) for prompt, each in lengths.items()})


def _pretrain(train: Path, snapshot: Path, *, model: str) -> None:
    try:
        with waiting("the predictor learns from other prompts"):
            pretrain(train, snapshot, model=model)
    except (OSError, ValueError) as error:
        raise CommandError(
            f"cannot learn from {train}: {error}", next_step="name a workload file with --train"
        ) from error


def _rows(workload: Path) -> list[WorkloadRequest]:
    try:
        return load_workload(workload)
    except WorkloadError as error:
        raise CommandError(
            str(error), next_step="run in the repository's root, or name a file with --workload"
        ) from error


async def _measure(
    service: LocalService,
    rows: Sequence[WorkloadRequest],
    configs: Mapping[str, PredictorConfig],
    *,
    directory: Path,
    receiver: SpanReceiver,
) -> Measurement:
    note("starting vLLM and the sidecar (about 20 s)")
    async with running_pod(
        service.plan,
        directory=directory,
        engine_path=ENGINE_MODULES,
        start_timeout_s=service.start_timeout_s,
    ) as pod:
        measuring = asyncio.create_task(
            measure(
                _server(pod, configs),
                rows,
                predictors=list(configs),
                receiver=receiver,
                stage=progress_bar,
            )
        )
        failing = asyncio.create_task(pod.failed())
        try:
            await asyncio.wait({measuring, failing}, return_when=asyncio.FIRST_COMPLETED)
            if failing.done():
                raise failing.result()
            return measuring.result()
        finally:
            measuring.cancel()
            failing.cancel()


def _server(pod: RunningPod, configs: Mapping[str, PredictorConfig]) -> Server:
    async def status() -> StatusReport:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{pod.addresses.ops}/status") as response,
        ):
            return decode_report(await response.read())

    async def start_over(predictor: str) -> str:
        static = msgspec.structs.replace(pod.plan.static, predictor=configs[predictor])
        await pod.replace_sidecar(static)
        report = (await status()).predictor
        if report.state != "Ready":
            raise PassFailed(f"predictor {predictor} is {report.state}: {report.message}")
        return pod.addresses.http

    async def queued() -> int:
        queue = (await status()).queue
        return queue.queued_requests + queue.in_flight_slots

    async def set_policy(policy: str) -> None:
        generation = pod.live.generation + 1
        pod.apply(msgspec.structs.replace(pod.live, policy=policy, generation=generation))
        deadline = time.monotonic() + _APPLY_TIMEOUT_S
        while (report := await status()).generation_applied != generation:
            if time.monotonic() > deadline:
                raise PassFailed(f"the sidecar did not take over policy {policy}")
            await asyncio.sleep(_POLL_S)
        if report.queue.order != policy:
            raise PassFailed(
                f"policy {policy} is set but the order is {report.queue.order}: "
                f"the predictor is {report.predictor.state} {report.predictor.message}".rstrip()
            )

    return Server(
        slots=pod.plan.static.engine.slots,
        start_over=start_over,
        queued=queued,
        set_policy=set_policy,
    )


def _provenance(service: LocalService, options: DemoOptions) -> Provenance:
    return Provenance(
        commit=provenance.commit(),
        seed=options.seed,
        hardware=provenance.hardware(),
        workload=str(options.workload),
        slots=service.plan.static.engine.slots,
    )
