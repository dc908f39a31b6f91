"""The queue against a sorted list."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from llmservice_sidecar.core.queue import RequestQueue
from llmservice_sidecar.core.request import Prediction, Request, RequestId

keys = st.tuples(st.integers(-3, 3).map(float))


class QueueMachine(RuleBasedStateMachine):
    """Few distinct keys, so that ties are common."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = RequestQueue()
        self.model: dict[RequestId, tuple[tuple[float, ...], int, float]] = {}
        self.numbers = 0

    @rule(key=keys, tokens=st.floats(1.0, 1e6))
    def push(self, key: tuple[float, ...], tokens: float) -> None:
        self.numbers += 1
        request = Request(
            id=RequestId(f"r{self.numbers}"),
            arrived_at=0.0,
            prompt_tokens=100,
            prediction=Prediction(tokens, tokens, "test"),
        )
        self.queue.push(request, key=key, number=self.numbers)
        self.model[request.id] = (key, self.numbers, tokens)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.model)))
        item = self.queue.remove(request_id)
        assert (item.key, item.number) == self.model.pop(request_id)[:2]
        assert request_id not in self.queue
        with pytest.raises(KeyError):
            self.queue.remove(request_id)

    @rule(turn=st.integers(-2, 2))
    def rekey(self, turn: int) -> None:
        self.model = {
            request_id: ((turn * key[0],), number, tokens)
            for request_id, (key, number, tokens) in self.model.items()
        }
        self.queue.rekey(lambda request: self.model[request.id][0])

    @invariant()
    def equals_a_sorted_list(self) -> None:
        order = sorted(self.model, key=lambda request_id: self.model[request_id][:2])
        assert [item.request.id for item in self.queue] == order
        assert [self.queue.position(request_id) for request_id in order] == list(range(len(order)))
        assert len(self.queue) == len(order)
        head = self.queue.head
        assert (None if head is None else head.request.id) == (order[0] if order else None)

    @invariant()
    def sums_are_of_all_that_wait(self) -> None:
        tokens = sum(entry[2] for entry in self.model.values())
        assert self.queue.predicted_tokens == pytest.approx(tokens, abs=1e-6)
        assert self.queue.work_tokens == pytest.approx(tokens + 5 * len(self.model), abs=1e-6)
        if not self.model:
            assert self.queue.work_tokens == self.queue.predicted_tokens == 0.0


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
