"""A vLLM logits processor that makes an answer exactly as long as the request says.

`vllm_xargs: {"out_len": N}` in the body: end-of-text is masked before token N and forced at N.
Requests without it are untouched. For demonstrations, benchmarks and tests: recorded lengths are
replayed inside the engine, hidden from everything in front of it. Load it with
`--logits-processors llmservice_lab.engine.forced_length:ForcedLengthLogitsProcessor` and
`VLLM_USE_V2_MODEL_RUNNER=0` (the other runner has another interface).
"""

# pyright: basic, reportMissingImports=false
# torch and vllm exist in the engine's environment only.
# ruff: noqa: FBT001, ARG002 - the signatures are vLLM's

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

OUT_LEN: Final = "out_len"
_MASKED: Final = -float("inf")


def forced_length(extra_args: Mapping[str, Any] | None) -> int | None:
    """The length in tokens, end-of-text included, that a request asks for; None when for none.

    Raises ValueError, which vLLM answers with 400.
    """
    value = (extra_args or {}).get(OUT_LEN)
    if value is None:
        return None
    if not _whole(value) or int(value) < 1:
        raise ValueError(
            f"vllm_xargs.{OUT_LEN} must be a whole number of at least 1, got {value!r}"
        )
    return int(value)


def _whole(value: object) -> bool:
    # JSON has one kind of number, so clients may send 12.0; gRPC's extra arguments are strings.
    if isinstance(value, float):
        return value.is_integer()
    if isinstance(value, str):
        return value.isdecimal()
    return isinstance(value, int) and not isinstance(value, bool)


class ForcedLengthLogitsProcessor(LogitsProcessor):
    """Masks end-of-text before token N and forces it at N, for the rows that ask for it."""

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Refuse a length that is no whole number of at least 1."""
        forced_length(sampling_params.extra_args)

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        self._device = device
        self._end_of_text = _end_of_text(vllm_config.model_config.hf_config)
        # Row of the batch -> (length to reach, the request's growing list of output tokens).
        self._rows: dict[int, tuple[int, Sequence[int]]] = {}
        self._row_index = torch.empty(0, dtype=torch.long, device=device)

    def is_argmax_invariant(self) -> bool:
        """False: greedy requests must be forced as well."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow the batch: which rows are forced now."""
        if process_dict_updates(self._rows, batch_update, _wanted):
            self._row_index = torch.tensor(list(self._rows), dtype=torch.long, device=self._device)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Mask end-of-text in all forced rows at once, then end those that reach their length."""
        if not self._rows:
            return logits
        logits[self._row_index, self._end_of_text] = _MASKED
        for row, (length, output) in self._rows.items():
            if len(output) + 1 >= length:
                logits[row].fill_(_MASKED)
                logits[row, self._end_of_text] = 0.0
        return logits


def _wanted(
    params: SamplingParams, _prompt: list[int] | None, output: list[int]
) -> tuple[int, Sequence[int]] | None:
    length = forced_length(params.extra_args)
    return None if length is None else (length, output)


def _end_of_text(hf_config: Any) -> int:
    token = hf_config.eos_token_id
    return int(token[0] if isinstance(token, list) else token)
