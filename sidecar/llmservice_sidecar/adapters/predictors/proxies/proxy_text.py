"""Prompts as token ids for a fine-tuned proxy: the same in training and in serving.

Long prompts are read head and tail: the task stands at the beginning or at the end.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tokenizers import Tokenizer

from llmservice_sidecar.adapters.predictors.errors import ArtefactError
from llmservice_sidecar.adapters.predictors.proxies.proxy_card import (
    MAX_TOKENIZER_BYTES,
    read_bounded,
)

HEAD_SHARE: Final = 0.75
CHARS_PER_TOKEN: Final = 12  # more are cut before tokenising, which bounds its cost


class ProxyText:
    """A tokeniser that never gives more than `max_tokens` ids, special ones included.

    Raises ArtefactError when `max_tokens` leaves no room beside the special tokens.
    """

    def __init__(self, tokenizer: Tokenizer, *, max_tokens: int) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        bare = tokenizer.encode("a", add_special_tokens=False).ids
        dressed = tokenizer.encode("a", add_special_tokens=True).ids
        start = next(
            (at for at in range(len(dressed)) if dressed[at : at + len(bare)] == bare), len(dressed)
        )
        self._before, self._after = dressed[:start], dressed[start + len(bare) :]
        room = max_tokens - len(self._before) - len(self._after)
        if room < 2:
            raise ArtefactError(f"max_tokens is {max_tokens}; allowed: two more than special ones")
        self._head = max(int(room * HEAD_SHARE), 1)
        self._tail = room - self._head

    @classmethod
    def load(cls, path: Path, *, max_tokens: int) -> ProxyText:
        """From a `tokenizer.json`. Raises OSError, or ArtefactError when it is none."""
        text = read_bounded(path, max_bytes=MAX_TOKENIZER_BYTES).decode("utf-8", "replace")
        try:
            tokenizer = Tokenizer.from_str(text)
        except Exception as error:  # its Rust side raises bare Exception
            raise ArtefactError(f"{path} is no tokenizer: {error}") from error
        return cls(tokenizer, max_tokens=max_tokens)

    def ids(self, text: str) -> list[int]:
        """Token ids of any text, at least one."""
        head, tail = self._head * CHARS_PER_TOKEN, self._tail * CHARS_PER_TOKEN
        if len(text) > head + tail:
            text = f"{text[:head]}\n{text[-tail:]}"
        clean = text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates
        found = self._tokenizer.encode(clean, add_special_tokens=False).ids
        if len(found) > self._head + self._tail:
            found = found[: self._head] + found[-self._tail :]
        return [*self._before, *found, *self._after] or [0]
