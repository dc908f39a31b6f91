"""Every panel has data and every drill its alerts, in a real Prometheus on a real load."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from fakes.live_operator import eventually
from fakes.rendered_chart import CHART
from integration.monitoring.prometheus import read
from integration.monitoring.stage import (
    Stage,
    asleep,
    body,
    busy,
    calm,
    flood,
    reconciled,
    stage,
    trouble,
)
from integration.sidecar.clients import post_chat
from llmservice_lab.engine.process import EngineProcess
from prometheus_client.parser import text_string_to_metric_families

# Its first test pays for engine, control plane, load and the first estimate of the gain.
pytestmark = pytest.mark.timeout(400)

DASHBOARDS: Final = sorted(path.stem for path in (CHART / "dashboards").glob("*.json"))
VARIABLES: Final = {"$__rate_interval": "10s", "$namespace": ".*", "$llmservice": ".*"}
# What takes its time: the gain is estimated, and sidecars are polled, every half minute.
LATE: Final = ("llmservice_estimated_gain_ratio", "llmservice_operator_polls_total")
PATIENCE_S: Final = 90.0


@dataclass(frozen=True, slots=True)
class Run:
    """A stage, when its load began, and what fired while it was calm."""

    stage: Stage
    since: float
    calm_alerts: set[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Generator[Run]:
    """Calm first, then the load with every outcome."""
    with stage(tmp_path_factory.mktemp("monitoring")) as made:
        since = time.time()
        asyncio.run(calm(made.sidecar))
        seen(made, "llmservice_longest_wait_seconds")
        seen(made, 'min_over_time(up{job="llmservice"}[6s]) == 1')  # the operator has started
        ended(made, "LLMServiceOperatorDown")
        quiet = asyncio.run(alerts_of(made, seconds=8))
        asyncio.run(busy(made.sidecar))
        reconciled(made.view)
        asyncio.run(asleep(made.prometheus))
        for late in LATE:
            seen(made, late)
        yield Run(made, since, quiet)


def seen(made: Stage, expression: str) -> None:
    """Wait until Prometheus has it."""
    eventually(lambda: made.prometheus.query(expression), within_s=PATIENCE_S)


def ended(made: Stage, alert: str) -> None:
    """Wait until the alert, which fired before its subject had started, has noticed that."""
    eventually(
        made.prometheus.firing, until=lambda firing: alert not in firing, within_s=PATIENCE_S
    )


async def alerts_of(made: Stage, *, seconds: float) -> set[str]:
    """All that fire while the sidecar has little to do."""
    fired: set[str] = set()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        await calm(made.sidecar, requests=3)
        fired |= await asyncio.to_thread(made.prometheus.firing)
        await asyncio.sleep(0.3)
    return fired


async def fire(made: Stage, *expected: str) -> None:
    """Wait until each of these alerts has fired; others may."""
    missing = set(expected)
    deadline = time.monotonic() + PATIENCE_S
    while missing:
        missing -= await asyncio.to_thread(made.prometheus.firing)
        assert time.monotonic() < deadline, f"in {PATIENCE_S} s these did not fire: {missing}"
        await asyncio.sleep(0.3)


def queries(dashboard: str) -> list[tuple[str, str]]:
    """Panel title and query, as Grafana would send it."""
    text = (CHART / "dashboards" / f"{dashboard}.json").read_text(encoding="utf-8")
    found: list[tuple[str, str]] = []
    for panel in json.loads(text)["panels"]:
        for target in panel.get("targets", []):
            query: str = target["expr"]
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            assert "$" not in query
            found.append((panel["title"], query))
    return found


def test_nothing_fires_while_it_is_calm(run: Run) -> None:
    assert run.calm_alerts == set()


@pytest.mark.parametrize("dashboard", DASHBOARDS)
def test_every_panel_shows_data_under_load(run: Run, dashboard: str) -> None:
    prometheus = run.stage.prometheus
    empty = [
        f"{title}: {query}"
        for title, query in queries(dashboard)
        if not prometheus.values(query, since=run.since)
    ]
    assert not empty, "\n".join(empty)


def test_dots_of_panels_are_traces_that_the_collector_has(run: Run) -> None:
    collected = {span.trace_id for span in run.stage.otlp.spans()}
    for query in ("llmservice_queue_wait_seconds_bucket", "llmservice_requests_total"):
        shown = run.stage.prometheus.exemplars(f'{query}{{pod="chat-0"}}', since=run.since)
        assert shown
        assert shown <= collected


def test_the_engines_own_series_are_all_there_for_dashboards_of_vllm(run: Run) -> None:
    names = {
        sample["metric"]["__name__"]
        for sample in run.stage.prometheus.query('{__name__=~"vllm:.+", pod="chat-0"}')
    }
    page = engine_page(run.stage.engine)
    assert len(page) > 20
    assert page <= names


def engine_page(engine: EngineProcess) -> set[str]:
    """The series of the engine itself, but for the times at which they were made."""
    text = read(f"{engine.url}/metrics").decode()
    found = {
        sample.name for family in text_string_to_metric_families(text) for sample in family.samples
    }
    return {name for name in found if re.match("vllm:", name) and not name.endswith("_created")}


async def test_made_up_model_names_make_no_series(run: Run) -> None:
    async def ask_for(model: str) -> None:
        status, _, _ = await post_chat(run.stage.sidecar, body(3, model=model))
        assert status == 404

    refused, _ = await settled(run.stage, refused=0)
    await ask_for("no-such-model")
    refused, before = await settled(run.stage, refused=refused + 1)
    for number in range(100):
        await ask_for(f"made-up-{number}")
    _, after = await settled(run.stage, refused=refused + 100)
    assert not after - before


async def settled(made: Stage, *, refused: float) -> tuple[float, set[frozenset[tuple[str, str]]]]:
    """The sidecar's series once so many refusals are counted and two looks in a row agree.

    With the refusals that are counted then.
    """
    query = '{__name__=~"llmservice_.+|gen_ai_.+", pod="chat-0"}'
    previous: set[frozenset[tuple[str, str]]] = set()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            samples = await asyncio.to_thread(made.prometheus.query, query)
            series = {frozenset(sample["metric"].items()) for sample in samples}
            counted = sum(
                float(sample["value"][1])
                for sample in samples
                if sample["metric"]["__name__"] == "llmservice_requests_total"
                and sample["metric"]["outcome"] == "rejected"
            )
            if counted >= refused and series and series == previous:
                return counted, series
            previous = series
            await asyncio.sleep(2)  # longer than from one scrape to the next


async def test_spans_that_nobody_takes_are_told(run: Run) -> None:
    clients = asyncio.create_task(repeat(run.stage))
    try:
        await fire(run.stage, "LLMServiceTracingDrops")
    finally:
        clients.cancel()
    assert not {
        sample["metric"]["llmservice"]
        for sample in run.stage.prometheus.query("llmservice_spans_dropped_total > 0")
    } - {"lost"}


async def repeat(made: Stage) -> None:
    """Requests whose traces are lost."""
    while True:
        await calm(made.untraced, requests=1)
        await asyncio.sleep(0.2)


async def test_a_flood_is_told_as_waiting_starving_and_refusing_and_a_dead_engine_as_down(
    run: Run,
) -> None:
    made, over = run.stage, asyncio.Event()
    clients = asyncio.create_task(flood(made.sidecar, until_set=over))
    try:
        await fire(
            made,
            "LLMServiceRefusesRequests",
            "LLMServiceStarvation",
            "LLMServiceQueueWaitHigh",
            "LLMServiceBacklogHigh",
        )
        await asyncio.to_thread(made.engine.stop)
        await fire(made, "LLMServiceEngineDown", "LLMServiceRequestsFail")
    finally:
        over.set()
        await clients


async def test_an_operator_in_trouble_and_one_that_is_gone_are_told(run: Run) -> None:
    made = run.stage
    await asyncio.to_thread(trouble, made.view)
    await fire(made, "LLMServiceNotReady", "LLMServiceOperatorErrors")
    await asyncio.to_thread(made.operator.kill)
    await fire(made, "LLMServiceOperatorDown")


def test_files_of_dashboards_are_the_four_that_are_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "chart.md").read_text(encoding="utf-8")
    for dashboard in DASHBOARDS:
        assert f"LLMService / {dashboard.title()}" in page
