"""Sorted blocks against a sorted list, through splits and emptied blocks."""

from __future__ import annotations

import random
from bisect import bisect_left, insort

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from llmservice_sidecar.core.sorted_blocks import BLOCK, SortedBlocks

# Whole runs of entries, so that few steps fill several blocks.
counts = st.sampled_from((1, 3, BLOCK // 2, 2 * BLOCK + 1))


class BlocksMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.blocks: SortedBlocks[int] = SortedBlocks()
        self.model: list[int] = []

    @rule(count=counts)
    def add_ascending(self, count: int) -> None:
        start = self.model[-1] + 2 if self.model else 0
        for entry in range(start, start + 2 * count, 2):
            self.blocks.add(entry)
            self.model.append(entry)

    @rule(count=counts)
    def add_descending(self, count: int) -> None:
        start = self.model[0] - 2 if self.model else 0
        for entry in range(start, start - 2 * count, -2):
            self.blocks.add(entry)
            insort(self.model, entry)

    @rule(seed=st.integers(0, 99), count=counts)
    def add_anywhere(self, seed: int, count: int) -> None:
        rng, here = random.Random(seed), set(self.model)
        for entry in {2 * rng.randrange(-4000, 4000) for _ in range(count)} - here:
            self.blocks.add(entry)
            insort(self.model, entry)

    @rule(at=st.floats(0.0, 1.0), count=counts)
    def remove_a_stretch(self, at: float, count: int) -> None:
        start = int(at * len(self.model))
        for entry in self.model[start : start + count]:
            self.blocks.remove(entry)
        del self.model[start : start + count]

    @rule(seed=st.integers(0, 99), count=counts)
    def add_and_look_below(self, seed: int, count: int) -> None:
        rng, here = random.Random(seed), set(self.model)
        for entry in {2 * rng.randrange(-4000, 4000) for _ in range(count)} - here:
            at = bisect_left(self.model, entry)
            larger = (len(self.model) - at, self.model[at : at + 3])
            assert self.blocks.add_below(entry, 3) == larger
            self.model.insert(at, entry)

    @rule(at=st.floats(0.0, 1.0))
    def take_one(self, at: float) -> None:
        if self.model:
            place = int(at * (len(self.model) - 1))
            assert self.blocks.take(self.model.pop(place)) == place

    @rule(count=counts)
    def drop_the_first_ones(self, count: int) -> None:
        for _ in self.model[:count]:
            self.blocks.drop_first()
        del self.model[:count]

    @rule(entries=st.sets(st.integers(-5000, 5000).map(lambda entry: 2 * entry)))
    def replace(self, entries: set[int]) -> None:
        self.blocks.replace(entries)
        self.model = sorted(entries)

    @rule(odd=st.integers(-5000, 5000).map(lambda entry: 2 * entry + 1))
    def nothing_odd_is_here(self, odd: int) -> None:
        with pytest.raises(KeyError):
            self.blocks.remove(odd)
        with pytest.raises(KeyError):
            self.blocks.take(odd)
        at = bisect_left(self.model, odd)
        assert self.blocks.rank(odd) == at
        assert self.blocks.beyond(odd, 3) == (len(self.model) - at, self.model[at : at + 3])

    @invariant()
    def equals_a_sorted_list(self) -> None:
        assert list(self.blocks) == self.model
        assert len(self.blocks) == len(self.model)
        if self.model:
            assert (self.blocks.first(), self.blocks.last()) == (self.model[0], self.model[-1])
            for at in (0, len(self.model) // 2, len(self.model) - 1):
                assert self.blocks.rank(self.model[at]) == at
                beyond = (len(self.model) - at, self.model[at : at + 2 * BLOCK])
                assert self.blocks.beyond(self.model[at], 2 * BLOCK) == beyond


TestBlocks = BlocksMachine.TestCase
TestBlocks.settings = settings(max_examples=40, stateful_step_count=12, deadline=None)


@settings(max_examples=20)
@given(entries=st.lists(st.integers(), unique=True))
def test_entries_may_be_given_at_once(entries: list[int]) -> None:
    assert list(SortedBlocks(entries)) == sorted(entries)


@pytest.mark.parametrize(
    "ask",
    [
        SortedBlocks[int].first,
        SortedBlocks[int].last,
        SortedBlocks[int].drop_first,
    ],
)
def test_nothing_is_first_or_last_of_none(ask: object) -> None:
    assert callable(ask)
    with pytest.raises(IndexError):
        ask(SortedBlocks[int]())


def test_the_last_of_a_split_block_can_be_removed() -> None:
    blocks: SortedBlocks[int] = SortedBlocks()
    for entry in range(2 * BLOCK + 1):
        blocks.add(entry)
    blocks.remove(2 * BLOCK)
    assert blocks.last() == 2 * BLOCK - 1


def test_a_tuple_is_found_by_its_beginning() -> None:
    blocks = SortedBlocks([(1, "a"), (2, "b"), (2, "c")])
    assert blocks.rank((2,)) == 1
    assert blocks.beyond((2,), 9) == (2, [(2, "b"), (2, "c")])
