"""Two thousand services, and twenty kills: what an operator of a whole cluster has to bear.

Some 20 minutes on two cores, so not in `make test`, which has both in small.
"""

from __future__ import annotations

import pytest
from cluster.controlplane import ControlPlane
from fakes.many import (
    carry,
    fleet_in,
    killed_again_and_again,
    ready_pods,
    running,
    same,
    undisturbed,
)

ADDRESS = "127.0.9.95"


@pytest.mark.timeout(3600)
def test_two_thousand_services_serve_and_then_nothing_is_written(plane: ControlPlane) -> None:
    with (
        fleet_in(plane, "scale") as fleet,
        ready_pods(plane, ADDRESS),
        running(plane) as operator,
    ):
        seen = carry(operator, fleet, services=2000, awake_every=1, quiet_s=60)
        print(seen)
        assert seen.written_while_quiet == 0
        assert seen.changed_while_quiet == {}
        assert seen.polls_while_quiet >= 2000
        assert seen.peak_mib < 250
        assert seen.p99_s <= 1  # the upper bound of the histogram's bucket
        assert "Traceback" not in operator.log.read_text()
        assert operator.stop() == 0


@pytest.mark.timeout(3600)
def test_killed_twenty_times_the_end_is_as_if_it_had_never_been(plane: ControlPlane) -> None:
    story = {"services": 100, "kills": 20, "seed": 20}
    with (
        fleet_in(plane, "calm") as calm,
        fleet_in(plane, "shaken") as shaken,
        ready_pods(plane, ADDRESS),
        running(plane, f"--namespace={calm.namespace}"),
    ):
        undisturbed(calm, **story)
        lived = killed_again_and_again(plane, shaken, **story)
        print("killed after", [f"{life_s:.1f} s" for life_s in lived])
        with running(plane, f"--namespace={shaken.namespace}", "--lease=shaken"):
            same(calm, shaken, within_s=600)
