"""The pool of KV blocks: counts, and what is found again."""

from __future__ import annotations

import pytest
from llmservice_lab.kv_blocks import KvBlocks, blocks_for


def pool(capacity: int = 10, *, caching: bool = True) -> KvBlocks:
    return KvBlocks(capacity, caching=caching)


@pytest.mark.parametrize(("tokens", "blocks"), [(0, 0), (1, 1), (16, 1), (17, 2)])
def test_a_block_holds_sixteen_tokens(tokens: int, blocks: int) -> None:
    assert blocks_for(tokens) == blocks


def test_what_was_given_back_is_found_but_for_the_block_that_is_not_full() -> None:
    blocks = pool()
    blocks.take(4)
    blocks.give_back(1, held=4, computed_tokens=50)
    assert (blocks.free, blocks.found(1)) == (10, 3)
    blocks.reuse(1, 2)
    assert (blocks.free, blocks.found(1)) == (8, 0)


def test_blank_blocks_go_first_then_the_last_of_whoever_gave_back_first() -> None:
    blocks = pool()
    blocks.take(10)
    blocks.give_back(1, held=4, computed_tokens=64)
    blocks.give_back(2, held=6, computed_tokens=80)
    blocks.take(1)
    assert (blocks.found(1), blocks.found(2)) == (4, 5)
    blocks.take(3)
    assert (blocks.found(1), blocks.found(2)) == (1, 5)
    blocks.take(3)
    assert (blocks.found(1), blocks.found(2)) == (0, 3)
    assert blocks.free == 3


def test_without_caching_nothing_is_found() -> None:
    blocks = pool(caching=False)
    blocks.take(4)
    blocks.give_back(1, held=4, computed_tokens=64)
    assert (blocks.free, blocks.found(1)) == (10, 0)
    blocks.reuse(1, 0)
    blocks.take(10)
    assert blocks.free == 0


def test_who_begins_anew_leaves_nothing_to_be_found() -> None:
    blocks = pool()
    blocks.take(3)
    blocks.give_back(1, held=3, computed_tokens=48)
    blocks.reuse(1, 1)
    blocks.take(9)
    blocks.give_back(1, held=10, computed_tokens=160)
    assert (blocks.free, blocks.found(1)) == (10, 10)
