"""An operator that is killed at any moment leaves nothing that its successor does not put right.

`make scale-test` kills it twenty times with more services.
"""

from __future__ import annotations

import uuid

import pytest
from cluster.controlplane import ControlPlane
from fakes.many import (
    fleet_in,
    killed_again_and_again,
    ready_pods,
    running,
    same,
    undisturbed,
)

pytestmark = pytest.mark.slow

SERVICES = 40
KILLS = 5
SEED = 6
ADDRESS = "127.0.9.94"


@pytest.mark.timeout(1200)
def test_killed_five_times_the_end_is_as_if_it_had_never_been(plane: ControlPlane) -> None:
    story = {"services": SERVICES, "kills": KILLS, "seed": SEED}
    unique = uuid.uuid4().hex[:8]
    with (
        fleet_in(plane, f"test-calm-{unique}") as calm,
        fleet_in(plane, f"test-shaken-{unique}") as shaken,
        ready_pods(plane, ADDRESS),
        running(plane, f"--namespace={calm.namespace}"),
    ):
        undisturbed(calm, **story)
        lived = killed_again_and_again(plane, shaken, **story)
        print("killed after", [f"{life_s:.1f} s" for life_s in lived])
        with running(plane, f"--namespace={shaken.namespace}", "--lease=shaken"):
            same(calm, shaken, within_s=240)
