"""Several operators and one Lease: one writes, another follows it, a paused one stays silent."""

from __future__ import annotations

import re
import signal
from collections.abc import Generator
from contextlib import contextmanager

import pytest
from cluster.controlplane import ControlPlane
from fakes.live_operator import LiveOperator, View, eventually

pytestmark = pytest.mark.slow

BURST = 30


@contextmanager
def pair(
    plane: ControlPlane, view: View, *, lease_seconds: int = 9
) -> Generator[tuple[LiveOperator, LiveOperator]]:
    """Two operators of one Lease, started together; the one that leads is the first."""
    arguments = (f"--namespace={view.namespace}", "--lease=shared")
    lasting = f"--lease-seconds={lease_seconds}"
    operators = [LiveOperator(plane, *arguments, lasting) for _ in range(2)]
    try:
        for operator in operators:
            eventually(lambda operator=operator: listens(operator), within_s=60)
        eventually(lambda: any(map(leads, operators)))
        operators.sort(key=leads, reverse=True)
        yield operators[0], operators[1]
    finally:
        for operator in operators:
            print(operator.log.read_text()[-5_000:])
            if operator.ended() is None:
                operator.kill()
            operator.log.unlink()


def listens(operator: LiveOperator) -> bool:
    try:
        return bool(operator.metrics())
    except OSError:
        return False


def leads(operator: LiveOperator) -> bool:
    return "llmservice_operator_leader 1.0" in operator.metrics()


def writes(operator: LiveOperator) -> int:
    """Applied and deleted objects, whatever came of it."""
    pattern = r'api_requests_total\{.*verb="(?:apply|delete)"\} (\S+)'
    return sum(int(float(count)) for count in re.findall(pattern, operator.metrics()))


def complete(view: View, count: int) -> bool:
    return len(view.list("deploy,svc,cm,sa,pdb", "-l", "llmservice.dev/name")) == 6 * count


def test_of_two_operators_one_writes_and_the_other_follows_its_death(
    plane: ControlPlane, view: View
) -> None:
    with pair(plane, view) as (first, second):
        view.apply_all({name: {} for name in "abc"})
        eventually(lambda: complete(view, 3))
        eventually(lambda: view.condition("Ready", name="c"))
        assert (leads(first), leads(second)) == (True, False)
        assert writes(first) > 0
        assert writes(second) == 0
        first.kill()
        view.apply("late")
        eventually(lambda: view.exist("late"), within_s=60)
        assert leads(second)
        assert second.stop() == 0


def test_an_operator_that_is_told_to_end_hands_over_at_once(
    plane: ControlPlane, view: View
) -> None:
    # Longer than the test waits: nobody waits for this Lease to run out.
    with pair(plane, view, lease_seconds=300) as (first, second):
        assert first.stop() == 0
        eventually(lambda: leads(second), within_s=60)
        view.apply()
        eventually(view.exist)


@pytest.mark.timeout(600)
def test_an_operator_that_was_paused_in_the_middle_of_its_work_writes_nothing_afterwards(
    plane: ControlPlane, view: View
) -> None:
    with pair(plane, view) as (first, second):
        view.apply_all({f"svc-{number:02}": {} for number in range(BURST)})
        eventually(lambda: len(view.list("deploy")), until=lambda seen: seen >= 3)
        first.signal(signal.SIGSTOP)
        # Most of the burst is left; were it not, the end would have to be the same.
        eventually(lambda: complete(view, BURST), within_s=240)
        eventually(lambda: calm(view), within_s=60)
        # With the second one stopped as well, whatever is written is the first one's.
        second.signal(signal.SIGSTOP)
        view.kubectl("delete", "svc", "--all", "--wait=false")
        before = view.versions()
        holder = view.get("lease/shared")["spec"]["holderIdentity"]
        first.signal(signal.SIGCONT)
        assert eventually(first.ended, until=lambda code: code is not None, within_s=30) == 1
        assert view.versions() == before
        assert view.get("lease/shared")["spec"]["holderIdentity"] == holder
        assert "the Lease is lost" in first.log.read_text()
        second.signal(signal.SIGCONT)
        eventually(lambda: complete(view, BURST), within_s=240)


def calm(view: View) -> bool:
    """Whether the controllers have done what there is to do."""
    deployments = view.list("deploy")
    return all(item.get("status", {}).get("replicas") == 1 for item in deployments)
