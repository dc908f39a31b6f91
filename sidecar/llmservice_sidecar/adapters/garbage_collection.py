"""How often Python's garbage collector looks for cycles, and at what."""

from __future__ import annotations

import gc
from typing import Final

# By default every 700 objects more. Spans live until they are exported, and each collection until
# then walked over them for nothing: 0.68 ms of CPU for a traced request, against 0.48 without.
_ALLOCATIONS_BEFORE_COLLECTION: Final = 10_000


def spare_collections() -> None:
    """Walk over less, less often; call it when all that stays to the end is there.

    What a request makes is freed by reference counts, so little waits for a collection.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS_BEFORE_COLLECTION, *gc.get_threshold()[1:])
