"""A gate with admission rules: what they refuse does not run."""

from __future__ import annotations

from collections.abc import Sequence

from llmservice_sidecar.core.decision import Queued
from llmservice_sidecar.core.gamma import WorkEstimator
from llmservice_sidecar.core.gate import Gate
from llmservice_sidecar.core.policies.fcfs import Fcfs
from llmservice_sidecar.core.request import Prediction, Request, RequestId
from llmservice_sidecar.core.rules import Running


class Never:
    """A rule that lets nobody run."""

    def admits(self, request: Request, running: Sequence[Running]) -> bool:
        return False


def test_every_rule_must_agree() -> None:
    door = Gate(
        policy=Fcfs(), rules=(Never(),), limit_slots=4, max_queued=9, estimator=WorkEstimator()
    )
    request = Request(
        id=RequestId("a"), arrived_at=0.0, prompt_tokens=0, prediction=Prediction(9.0, 9.0, "test")
    )
    assert isinstance(door.offer(request, now=0.0), Queued)
    assert list(door.rekey(now=1.0)) == []
    assert (door.in_flight_slots, door.limit_slots) == (0, 4)
