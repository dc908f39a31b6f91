"""The queue against a sorted list."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from llmservice_sidecar.core.queue import RequestQueue, Waiting
from llmservice_sidecar.core.request import Prediction, Request, RequestId

keys = st.tuples(st.integers(-3, 3).map(float))


class QueueMachine(RuleBasedStateMachine):
    """Few distinct keys, so that ties are common."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = RequestQueue()
        self.model: dict[int, Waiting] = {}
        self.numbers = 0

    @rule(key=keys)
    def push(self, key: tuple[float, ...]) -> None:
        self.numbers += 1
        request = Request(
            id=RequestId(f"r{self.numbers}"),
            arrived_at=0.0,
            prompt_tokens=100,
            prediction=Prediction(10.0, 10.0, "test"),
        )
        self.model[self.numbers] = Waiting(key, self.numbers, request)
        self.queue.push(self.model[self.numbers])

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        item = self.model.pop(data.draw(st.sampled_from(sorted(self.model))))
        self.queue.remove(item)
        with pytest.raises(KeyError):
            self.queue.remove(item)

    @rule(turn=st.integers(-2, 2))
    def rekey(self, turn: int) -> None:
        keys = {item.request.id: (turn * item.key[0],) for item in self.model.values()}
        self.queue.rekey(lambda request: keys[request.id])
        assert {item.request.id: item.key for item in self.model.values()} == keys

    @invariant()
    def equals_a_sorted_list(self) -> None:
        order = sorted(self.model.values(), key=lambda item: (item.key, item.number))
        assert list(self.queue) == order
        assert len(self.queue) == len(order)
        standing = [self.queue.before(item.key, item.number) for item in order]
        assert standing == list(range(len(order)))
        if order:
            assert (self.queue.head, self.queue.last) == (order[0], order[-1])


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_an_empty_queue_has_no_head() -> None:
    with pytest.raises(IndexError):
        _ = RequestQueue().head
