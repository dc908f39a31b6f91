"""What a request says beside its prompt, in numbers: only for what learns online.

The shipped model is trained without these, so it does not see them; how much each one lengthens an
answer is a matter of the served model, and learned from its requests alone.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from llmservice_sidecar.runtime.ports import PredictionQuery

EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "on")
CUES: Final = len(EFFORTS) + 3  # any other effort, instructions, the last turn's share
LARGEST: Final = 4.0  # as of all that a head sees: about standard deviations
_LOG_SHARE_UNIT: Final = 2.0


def request_cues(query: PredictionQuery) -> npt.NDArray[np.float64]:
    """`CUES` numbers within `LARGEST`, all zero for one turn about which nothing is said.

    Ones and zeros: which effort is asked for, whether there are instructions. Then how much of the
    text is its last turn, as a logarithm.
    """
    cues = np.zeros(CUES)
    effort = query.reasoning_effort
    if effort is not None:
        word = effort.lower()
        cues[EFFORTS.index(word) if word in EFFORTS else len(EFFORTS)] = 1.0
    cues[-2] = float(query.system)
    if query.last_turn:
        share = math.log((1 + len(query.last_turn)) / (1 + len(query.text))) / _LOG_SHARE_UNIT
        cues[-1] = max(-LARGEST, min(share, LARGEST))
    return cues
