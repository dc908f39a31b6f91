"""The blocks of a KV cache as vLLM's block pool keeps them: how many are free, what is found again.

A request that gives its blocks back leaves their contents behind until somebody takes them. Taken
first are blocks with nothing of use, then the rest in the order in which they were given back, of
each request the last block first.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from llmservice_lab.sim_engine import BLOCK_TOKENS


@dataclass(slots=True, eq=False)
class _Left:
    """`found` blocks that `owner` has filled, from its first token on; None: of use to nobody."""

    owner: int | None
    found: int


def blocks_for(tokens: int) -> int:
    """Blocks that so many tokens take."""
    return -(-tokens // BLOCK_TOKENS)


class KvBlocks:
    """`capacity` blocks. Owners are named by numbers. `caching` False: nothing is found again."""

    def __init__(self, capacity: int, *, caching: bool) -> None:
        self._caching = caching
        self._free = capacity
        self._blank = capacity
        self._queue: deque[_Left] = deque()
        self._left: dict[int, _Left] = {}

    @property
    def free(self) -> int:
        """Blocks that can be taken, found ones among them."""
        return self._free

    def found(self, owner: int) -> int:
        """Blocks of the owner's tokens, from the first on, that nobody has taken since."""
        left = self._left.get(owner)
        return 0 if left is None else left.found

    def reuse(self, owner: int, blocks: int) -> None:
        """The owner holds its first `blocks` again; they must be found."""
        left = self._left.pop(owner, None)
        if left is not None:
            left.owner = None
            left.found -= blocks
            self._free -= blocks

    def take(self, blocks: int) -> None:
        """So many of the free ones, which must suffice."""
        self._free -= blocks
        blank = min(self._blank, blocks)
        self._blank -= blank
        blocks -= blank
        while blocks:
            first = self._queue[0]
            taken = min(first.found, blocks)
            first.found -= taken
            blocks -= taken
            if not first.found:
                self._queue.popleft()
                if first.owner is not None:
                    del self._left[first.owner]

    def give_back(self, owner: int, *, held: int, computed_tokens: int) -> None:
        """The owner's blocks are free again; those that its tokens fill can be found."""
        found = min(computed_tokens // BLOCK_TOKENS, held) if self._caching else 0
        self._free += held
        self._blank += held - found
        if found:
            self._left[owner] = _Left(owner, found)
            self._queue.append(self._left[owner])
