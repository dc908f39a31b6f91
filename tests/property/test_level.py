"""Whose turn it is among many tenants, against a plain walk over all of them."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from llmservice_sidecar.core.fair_share import Charge, FairShare
from llmservice_sidecar.core.level import Level, rank
from llmservice_sidecar.core.queue import Waiting
from llmservice_sidecar.core.request import Prediction, Request, RequestId

tenants = st.sampled_from([f"t{number}" for number in range(5)])


class LevelMachine(RuleBasedStateMachine):
    """Accounts rise and fall around the slack, and so does the slack."""

    def __init__(self) -> None:
        super().__init__()
        self.shares = FairShare()
        self.level = Level(self.shares)
        self.model: dict[int, tuple[str, Waiting]] = {}
        self.charges: list[Charge] = []
        self.numbers = 0

    @rule(tenant=tenants, key=st.integers(-5, 5).map(float))
    def push(self, tenant: str, key: float) -> None:
        waiting = {name for name, _ in self.model.values()}
        if tenant not in waiting:
            least = min(map(self.shares.account, waiting), default=None)
            assert least is None or least == self.level.least()
            self.shares.came_back(tenant, least=least, waits=waiting.__contains__)
        self.numbers += 1
        request = Request(
            id=RequestId(f"r{self.numbers}"),
            arrived_at=0.0,
            prompt_tokens=0,
            prediction=Prediction(1.0, 1.0, "test"),
        )
        item = Waiting((key,), self.numbers, request)
        self.level.push(tenant, item)
        self.model[self.numbers] = (tenant, item)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        tenant, item = self.model.pop(data.draw(st.sampled_from(sorted(self.model))))
        self.level.remove(tenant, item)

    @precondition(lambda self: self.model)
    @rule(tokens=st.sampled_from((10.0, 100.0, 500.0)))
    def next_runs(self, tokens: float) -> None:
        item = self.level.head()
        tenant, _ = self.model.pop(item.number)
        self.level.remove(tenant, item)
        self.charges.append(self.shares.charge(tenant, tokens))
        self.level.charged(tenant)

    @precondition(lambda self: self.charges)
    @rule(real=st.sampled_from((0.0, 50.0, 700.0)))
    def first_ends(self, real: float) -> None:
        charge = self.charges.pop(0)
        self.shares.settle(charge, real)
        self.level.charged(charge.tenant)

    @rule(turn=st.sampled_from((-1, 0, 1)))
    def rekey(self, turn: int) -> None:
        keys = {item.request.id: (turn * item.key[0],) for _, item in self.model.values()}
        self.level.rekey(lambda request: keys[request.id])

    @rule(slots=st.integers(1, 4))
    def resize(self, slots: int) -> None:
        self.shares.slots = slots

    @invariant()
    def turn_is_that_of_a_plain_walk(self) -> None:
        assert len(self.level) == len(self.model)
        if not self.model:
            assert not self.level.lanes
            return
        bound = min(self.shares.account(tenant) for tenant, _ in self.model.values())
        bound += self.shares.slack_tokens
        near = [item for name, item in self.model.values() if self.shares.account(name) <= bound]
        assert self.level.head() is min(near, key=rank)


TestLevel = LevelMachine.TestCase
TestLevel.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
