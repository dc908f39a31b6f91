"""A Hugging Face model as the body of a proxy: pooled states of prompts. Needs torch.

The lower layers may be frozen: what they make of a prompt never changes, so it is computed once.
"""

# pyright: basic, reportMissingImports=false
# torch and transformers exist in the extra `predictor` only.

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

BATCH = 32


class BaseModelError(ValueError):
    """The named model cannot be used as the body of a proxy."""


class Encoder(nn.Module):
    """Mean of the last hidden states over a prompt's tokens, of any encoder or decoder."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.width = int(body.config.hidden_size)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Pooled states (batch, width)."""
        states = self.body(input_ids=input_ids, attention_mask=attention_mask)[0]
        weight = attention_mask.unsqueeze(-1).to(states.dtype)
        return (states * weight).sum(1) / weight.sum(1).clamp(min=1.0)

    def stack(self) -> tuple[nn.Module, str]:
        """The module that holds the layers, and the attribute's name. Raises BaseModelError."""
        layers = int(self.body.config.num_hidden_layers)
        for module in self.body.modules():
            for name, child in module.named_children():
                if isinstance(child, nn.ModuleList) and len(child) == layers:
                    return module, name
        raise BaseModelError(f"{type(self.body).__name__} has no list of {layers} layers to freeze")


def load_body(base: str) -> tuple[nn.Module, Tokenizer]:
    """A model and its fast tokenizer, by Hugging Face id or directory. Raises BaseModelError.

    Code that comes with a model is never run.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
        body = AutoModel.from_pretrained(base, trust_remote_code=False, dtype=torch.float32)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise BaseModelError(f"base model {base}: {error}") from error
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None or not hasattr(body.config, "hidden_size"):
        raise BaseModelError(
            f"base model {base} has no fast tokenizer or no hidden_size: take an encoder such as "
            "bert-base-uncased or a decoder such as facebook/opt-125m"
        )
    if hasattr(body.config, "use_cache"):
        body.config.use_cache = False
    return body, Tokenizer.from_str(fast.to_str())


def padded(ids: Sequence[Sequence[int]], *, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and mask (batch, longest); padding is id 0, which the mask hides."""
    longest = max(map(len, ids))
    rows = torch.zeros((len(ids), longest), dtype=torch.long)
    mask = torch.zeros_like(rows)
    for index, row in enumerate(ids):
        rows[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = 1
    return rows.to(device), mask.to(device)


class FrozenPrefix:
    """What the frozen layers made of the prompts; for training, the encoder is only what is above.

    `frozen` layers from the bottom, -1 for all of the encoder. `remark(done)` is told the progress.
    Raises BaseModelError when the model has not so many layers.
    """

    def __init__(self, encoder: Encoder, *, frozen: int) -> None:
        self._encoder = encoder
        self._all = frozen < 0
        self._frozen = frozen
        self._states: list[Tensor] = []
        self._given: Tensor | None = None
        if self._all:
            encoder.requires_grad_(requires_grad=False)
        elif frozen > 0:
            self._freeze(frozen)

    def compute(self, ids: Sequence[Sequence[int]], remark: Callable[[int], None]) -> None:
        """Run the frozen part once over all prompts; nothing to do when none is frozen."""
        if not self._frozen:
            return
        device = next(self._encoder.parameters()).device
        self._encoder.eval()
        # Alike lengths share a batch: little padding. Results go back to their places.
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        found: dict[int, Tensor] = {}
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            rows, mask = padded([ids[index] for index in chosen], device=device)
            with torch.no_grad():
                states = self._run(rows, mask)
            for place, index in enumerate(chosen):
                state = states[place] if self._all else states[place, : len(ids[index])]
                found[index] = state.to("cpu", torch.float16 if not self._all else torch.float32)
            remark(min(start + BATCH, len(order)))
        self._states = [found[index] for index in range(len(ids))]

    def pooled(self, ids: Sequence[Sequence[int]], chosen: Sequence[int]) -> Tensor:
        """Pooled states of the chosen prompts, with gradients for what is not frozen."""
        device = next(self._encoder.parameters()).device
        if self._all:
            return torch.stack([self._states[index] for index in chosen]).to(device)
        rows, mask = padded([ids[index] for index in chosen], device=device)
        if not self._frozen:
            return self._encoder(rows, mask)
        owner, name = self._encoder.stack()
        whole = getattr(owner, name)
        hook = whole[self._frozen].register_forward_pre_hook(self._swap, with_kwargs=True)
        self._given = nn.utils.rnn.pad_sequence(
            [self._states[index].float() for index in chosen], batch_first=True
        ).to(device)
        setattr(owner, name, whole[self._frozen :])
        try:
            return self._encoder(rows, mask)
        finally:
            setattr(owner, name, whole)
            hook.remove()

    def _freeze(self, frozen: int) -> None:
        owner, name = self._encoder.stack()
        layers = getattr(owner, name)
        if frozen >= len(layers):
            raise BaseModelError(
                f"freeze_layers is {frozen}; the model has {len(layers)}; allowed: fewer, or -1 "
                "for the whole encoder"
            )
        self._encoder.requires_grad_(requires_grad=False)
        layers[frozen:].requires_grad_(requires_grad=True)

    def _run(self, rows: Tensor, mask: Tensor) -> Tensor:
        if self._all:
            return self._encoder(rows, mask)
        owner, name = self._encoder.stack()
        whole = getattr(owner, name)
        seen: list[Tensor] = []

        def keep(_module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
            seen.append(output if isinstance(output, Tensor) else output[0])

        hook = whole[self._frozen - 1].register_forward_hook(keep)
        setattr(owner, name, whole[: self._frozen])
        try:
            self._encoder(rows, mask)
        finally:
            setattr(owner, name, whole)
            hook.remove()
        return seen[0]

    def _swap(
        self, _module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> object:
        """Before the first layer that is not frozen: remembered states instead of embeddings."""
        if args:
            return (self._given, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": self._given}
