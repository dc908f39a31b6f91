"""Trials of one operator with many services: small in `make test`, large in `make scale-test`."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import unified_diff

from cluster.controlplane import ControlPlane
from fakes.fleet import Fleet, change_of, differences, memory_mib, metric, quantile, spec_of
from fakes.live_operator import LiveOperator, eventually
from fakes.live_pods import sidecar_process
from fakes.nodes import FakeNodes
from fakes.rest import Rest

PREFIX = "llmservice_operator"
_ASKED_AGAIN_S = 45.0  # pods are asked every 30 s, and the first answer of one is news


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What an operator with that many services has shown."""

    services: int
    made_s: float
    p99_s: float
    resident_mib: float
    peak_mib: float
    written_while_quiet: int
    changed_while_quiet: dict[str, str]
    polls_while_quiet: int


@contextmanager
def running(plane: ControlPlane, *arguments: str) -> Generator[LiveOperator]:
    """An operator that is ended at the end if it has not been before."""
    operator = LiveOperator(plane, *arguments)
    try:
        yield operator
    finally:
        print(operator.log.read_text()[-4_000:])
        if operator.ended() is None:
            operator.kill()
        operator.log.unlink()


@contextmanager
def ready_pods(plane: ControlPlane, address: str) -> Generator[None]:
    """Pods become ready, and their sidecars answer."""
    with sidecar_process(address), FakeNodes(plane, count=10, address=address):
        yield


def carry(
    operator: LiveOperator, fleet: Fleet, *, services: int, awake_every: int, quiet_s: float
) -> Load:
    """Make that many services, wait until all are served, then listen for a while.

    One in `awake_every` has pods, the others are suspended.
    """
    started = time.monotonic()
    awake = 0
    for number in range(services):
        suspended = number % awake_every != 0
        awake += not suspended
        fleet.create(f"svc-{number:04}", spec_of(number, suspended=suspended))
    wanted = (services, awake)
    eventually(lambda: judged(operator), until=lambda seen: seen == wanted, within_s=services + 300)
    eventually(lambda: at_rest(operator), within_s=600)
    made_s = time.monotonic() - started
    before, written, polls = fleet.versions(), writes(operator), answered(operator)
    threading.Event().wait(quiet_s)  # nothing ends it: the subject is that nothing happens
    written, polls = writes(operator) - written, answered(operator) - polls
    after = fleet.versions()
    resident, peak = memory_mib(operator)
    return Load(
        services=services,
        made_s=made_s,
        p99_s=quantile(operator, f"{PREFIX}_reconcile_seconds", 0.99),
        resident_mib=resident,
        peak_mib=peak,
        written_while_quiet=written,
        changed_while_quiet={
            name: version for name, version in after.items() if before.get(name) != version
        },
        polls_while_quiet=polls,
    )


def judged(operator: LiveOperator) -> tuple[int, int]:
    """How many services the operator has judged, and how many are Ready; it may be starting."""
    services = f"{PREFIX}_services"
    try:
        known = int(metric(operator, services, condition="Ready"))
        return known, int(metric(operator, services, condition="Ready", status="True"))
    except OSError:
        return 0, 0


def leads(operator: LiveOperator) -> bool:
    """Whether it is the one that writes; it may be starting."""
    try:
        return metric(operator, f"{PREFIX}_leader") == 1
    except OSError:
        return False


def writes(operator: LiveOperator) -> int:
    """Objects applied and deleted so far, whatever came of it."""
    calls = (metric(operator, f"{PREFIX}_api_requests_total", verb=v) for v in ("apply", "delete"))
    return int(sum(calls))


def answered(operator: LiveOperator) -> int:
    """Questions that sidecars have answered."""
    return int(metric(operator, f"{PREFIX}_polls_total", result="answered"))


def at_rest(operator: LiveOperator) -> bool:
    """Whether nothing waits, and nothing was written while every pod has been asked again."""
    before = writes(operator)
    threading.Event().wait(_ASKED_AGAIN_S)
    return metric(operator, f"{PREFIX}_queue_depth") == 0 and writes(operator) == before


def killed_again_and_again(
    plane: ControlPlane, fleet: Fleet, *, services: int, kills: int, seed: int
) -> list[float]:
    """Change a fleet while one operator after the other is killed; the seconds each has lived.

    The last one is left to finish the work.
    """
    rng = random.Random(seed)
    moments = random.Random(seed + 1)  # apart: the changes are the same without kills
    lived: list[float] = []
    arguments = (f"--namespace={fleet.namespace}", "--lease=shaken", "--lease-seconds=3")
    for step in range(kills):
        change(fleet, rng, step, services=services)
        operator = LiveOperator(plane, *arguments)
        started = time.monotonic()
        if moments.random() > 0.2:  # else while it starts
            eventually(lambda o=operator: leads(o), within_s=60)
        threading.Event().wait(moments.uniform(0.0, 4.0))
        operator.kill()
        lived.append(time.monotonic() - started)
        operator.log.unlink()
    return lived


def undisturbed(fleet: Fleet, *, services: int, kills: int, seed: int) -> None:
    """The same changes, for an operator that nobody kills."""
    rng = random.Random(seed)
    for step in range(kills):
        change(fleet, rng, step, services=services)


def change(fleet: Fleet, rng: random.Random, step: int, *, services: int) -> None:
    """One step of the story: all are made, then some are changed, deleted and made anew."""
    if step == 0:
        for number in range(services):
            # Pods are the controllers' work: some services have them, the operator's is the same.
            fleet.create(name_of(number), spec_of(number, suspended=number % 4 != 0))
        return
    for number in rng.sample(range(services), services // 2):
        fleet.patch(name_of(number), change_of(rng, number))
    again = rng.randrange(services)
    fleet.delete(name_of(again))
    eventually(lambda: not fleet.rest.call("GET", fleet.path(name_of(again))).ok)
    fleet.create(name_of(again), spec_of(again))


def name_of(number: int) -> str:
    """The service of that number."""
    return f"svc-{number:03}"


def same(calm: Fleet, shaken: Fleet, *, within_s: float) -> None:
    """Wait until both fleets are at rest in the same state; fails with what differs."""
    for fleet in (calm, shaken):
        eventually(lambda fleet=fleet: settled(fleet), within_s=within_s)
    seen = eventually_same(calm, shaken, within_s=within_s)
    told = [
        "\n".join(unified_diff(one.splitlines(), other.splitlines(), name, name, lineterm="", n=2))
        for name, (one, other) in seen.items()
    ]
    assert not seen, f"{len(seen)} objects differ\n" + "\n".join(told[:5])


def eventually_same(calm: Fleet, shaken: Fleet, *, within_s: float) -> dict[str, tuple[str, str]]:
    """What differs at the end of the time, or nothing as soon as nothing does."""
    deadline = time.monotonic() + within_s
    while (seen := differences(calm, shaken)) and time.monotonic() < deadline:
        threading.Event().wait(1)
    return seen


def settled(fleet: Fleet) -> bool:
    """Whether every service has been judged as it is, and does not move any more."""
    return all(
        item.get("status", {}).get("observedGeneration") == item["metadata"]["generation"]
        and any(
            (entry["type"], entry["status"]) == ("Reconciling", "False")
            for entry in item["status"]["conditions"]
        )
        for item in fleet.rest.list("llmservices", fleet.namespace)
    )


@contextmanager
def fleet_in(plane: ControlPlane, namespace: str, *, exists: bool = False) -> Generator[Fleet]:
    """The services of a namespace, which is made and deleted unless it exists."""
    if not exists:
        plane.kubectl("create", "namespace", namespace)
    rest = Rest(plane)
    try:
        yield Fleet(rest, namespace)
    finally:
        rest.close()
        if not exists:
            plane.kubectl("delete", "namespace", namespace, "--wait=false")
