"""Two hundred services at once: all get what they need, and then there is silence."""

from __future__ import annotations

import time
import urllib.request

import pytest
from cluster.controlplane import ControlPlane
from fakes.live_operator import OWNED, LiveOperator, View, eventually

COUNT = 200


@pytest.mark.timeout(400)
def test_two_hundred_services_are_all_made_and_judged(plane: ControlPlane, view: View) -> None:
    # Suspended: the subject is the operator, not two hundred ReplicaSets and their pods.
    specs = {f"svc-{number:03}": {"suspend": True} for number in range(COUNT)}
    operator = LiveOperator(plane, f"--namespace={view.namespace}")
    try:
        started = time.monotonic()
        view.apply_all(specs)
        applied = time.monotonic()
        eventually(lambda: complete(view), within_s=240)
        made = time.monotonic()
        eventually(lambda: judged(view), within_s=120)
        done = time.monotonic()
        print(
            f"{COUNT} services: applied in {applied - started:.1f} s, all objects there after "
            f"{made - started:.1f} s, all judged after {done - started:.1f} s"
        )
        with urllib.request.urlopen(f"http://127.0.0.1:{operator.port}/healthz", timeout=10) as ok:
            assert ok.status == 200
        # And one more: the workers have not died on the way.
        view.apply("late")
        eventually(lambda: view.exist("late"), within_s=60)
        assert "Traceback" not in operator.log.read_text()
        assert operator.stop() == 0
    finally:
        print(operator.log.read_text()[-10_000:])
        if operator.ended() is None:
            operator.kill()
        operator.log.unlink()


def complete(view: View) -> bool:
    """Whether every service has everything it owns."""
    said = view.kubectl("get", "deploy,svc,cm,sa,pdb", "-l", "llmservice.dev/name", "-o", "name")
    return len(said.split()) == COUNT * len(OWNED)


def judged(view: View) -> bool:
    """Whether every service has been judged as it is now."""
    reasons = view.kubectl(
        "get", "llmsvc",
        "-o", 'jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].reason} {end}',
    )  # fmt: skip
    return reasons.split().count("Suspended") == COUNT
