"""Two hundred services at once: all get what they need, and then there is silence.

`make scale-test` does the same with two thousand.
"""

from __future__ import annotations

import urllib.request

import pytest
from cluster.controlplane import ControlPlane
from fakes.live_operator import View, eventually
from fakes.many import carry, fleet_in, ready_pods, running

pytestmark = pytest.mark.slow

COUNT = 200
ADDRESS = "127.0.9.93"


@pytest.mark.timeout(1200)
def test_two_hundred_services_are_served_and_then_nothing_is_written(
    plane: ControlPlane, view: View
) -> None:
    with (
        fleet_in(plane, view.namespace, exists=True) as fleet,
        ready_pods(plane, ADDRESS),
        running(plane, f"--namespace={view.namespace}") as operator,
    ):
        seen = carry(operator, fleet, services=COUNT, awake_every=5, quiet_s=35)
        print(seen)
        assert seen.written_while_quiet == 0
        assert seen.changed_while_quiet == {}
        assert seen.polls_while_quiet >= COUNT / 5
        assert seen.peak_mib < 250
        with urllib.request.urlopen(f"http://127.0.0.1:{operator.port}/healthz", timeout=10) as ok:
            assert ok.status == 200
        # And one more: the workers have not died on the way.
        view.apply("late")
        eventually(lambda: view.exist("late"), within_s=60)
        assert "Traceback" not in operator.log.read_text()
        assert operator.stop() == 0
