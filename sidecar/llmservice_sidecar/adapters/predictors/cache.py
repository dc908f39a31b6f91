"""Descriptions of prompts that were met before: the work that does not change with learning.

Only what the base model says is kept, never a prediction: a prompt that comes again is predicted
with all that was learned since. A finished request is learned from without being read again.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

from llmservice_sidecar.adapters.predictors.learned.sharing import Describes
from llmservice_sidecar.adapters.predictors.shipped.base import Description
from llmservice_sidecar.runtime.ports import PredictionQuery

MAX_ENTRIES: Final = 1024  # about 3 kB each; as many as may be queued by default


class CachedDescriptions:
    """A `Describes` that remembers the latest prompts by their hash, not their text.

    Not thread-safe: it lives in the predictor's thread.
    """

    def __init__(self, base: Describes, *, entries: int = MAX_ENTRIES) -> None:
        self._base = base
        self._entries = entries
        self._known: OrderedDict[bytes, Description] = OrderedDict()

    def describe(self, query: PredictionQuery) -> Description:
        """What the base says of this query, now or before."""
        key = _key(query)
        found = self._known.get(key)
        if found is None:
            found = self._base.describe(query)
            self._known[key] = found
            if len(self._known) > self._entries:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        return found


def _key(query: PredictionQuery) -> bytes:
    # All that the shipped model looks at and nothing else: requests that differ in the rest only
    # (model, effort, limit) share one description.
    rest = (query.prompt_tokens, query.turns, query.has_tools, query.has_schema)
    key = hashlib.blake2b(repr(rest).encode(), digest_size=16)
    key.update(query.text.encode("utf-8", "surrogatepass"))
    return key.digest()
