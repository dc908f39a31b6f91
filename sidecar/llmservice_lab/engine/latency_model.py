"""What the latency engine does instead of computing: how long a step takes, what comes out.

Pure and standard library only, so that tests and simulations need no vLLM. Everything follows from
the prompt's token ids: the same prompt gets the same answer by any way, in any process.
"""

from __future__ import annotations

import array
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Final

VARIABLE_PREFIX: Final = "LLMSERVICE_LATENCY_"

# A default answer may be this many times longer than the mean: no ordinary client waits for ever.
_LONGEST_OVER_MEAN: Final = 8
_STRIDE: Final = 7919


@dataclass(frozen=True, slots=True)
class LatencyModel:
    """One step takes `step_s + per_decode_s x decodes + per_prefill_token_s x prefill tokens`."""

    step_s: float = 5e-3
    per_decode_s: float = 0.1e-3
    per_prefill_token_s: float = 0.02e-3
    mean_output_tokens: float = 128.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> LatencyModel:
        """Read `LLMSERVICE_LATENCY_STEP_S` and so on; what is not set keeps its default.

        Raises ValueError that names the variable.
        """
        values: dict[str, float] = {}
        for field in fields(cls):
            variable = VARIABLE_PREFIX + field.name.upper()
            if text := environment.get(variable):
                values[field.name] = _non_negative(text, variable)
        return cls(**values)

    def to_environment(self) -> dict[str, str]:
        """The variables from which `from_environment` makes this model again."""
        return {VARIABLE_PREFIX + name.upper(): repr(value) for name, value in asdict(self).items()}

    def duration_s(self, *, decodes: int, prefill_tokens: int) -> float:
        """Seconds that a step with this work takes."""
        return self.step_s + self.per_decode_s * decodes + self.per_prefill_token_s * prefill_tokens

    def output_tokens(self, seed: int) -> int:
        """A geometric length with the model's mean for a request that forces none."""
        uniform = ((seed >> 16) + 0.5) / 2**48
        longest = max(1, round(_LONGEST_OVER_MEAN * self.mean_output_tokens))
        return min(longest, 1 + math.floor(-self.mean_output_tokens * math.log(uniform)))


def prompt_seed(token_ids: Sequence[int]) -> int:
    """64 bits that depend on the prompt alone; `hash()` would differ between processes."""
    data = array.array("Q", token_ids).tobytes()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


def token_at(seed: int, index: int, *, vocabulary: int) -> int:
    """The answer's token number `index`, from the upper part of the vocabulary.

    Ids below an eighth of the vocabulary are left out: special tokens and single bytes live there.
    """
    first = vocabulary // 8
    return first + (seed + index * _STRIDE) % (vocabulary - first)


def _non_negative(text: str, variable: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise ValueError(f"{variable}={text!r} is not a number") from error
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{variable}={text!r} must be a finite number of at least 0")
    return value
