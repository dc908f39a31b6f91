"""Encoder and head in one, as it is exported. Needs torch."""

# pyright: basic, reportMissingImports=false
# torch exists in the extra `predictor` only.

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from llmservice_lab.predictors.proxies.encoder import Encoder
from llmservice_lab.predictors.proxies.heads import Head


class Network(nn.Module):
    """Token ids and mask in; score and spread (batch,) and unit embedding (batch, width) out."""

    def __init__(self, encoder: Encoder, head: Head) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the served file computes."""
        return self.said(self.encoder(input_ids, attention_mask))

    def said(self, pooled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same from pooled states."""
        score, spread = self.head.score(self.head(pooled))
        return score, spread, functional.normalize(pooled, dim=1)
