"""The papers' heads: what the network's outputs mean, what it is punished for. Needs torch.

Scores are larger for longer answers whatever the head, so that whoever reads them need not know it.
"""

# pyright: basic, reportMissingImports=false
# torch exists in the extra `predictor` only.

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmservice_lab.heads import MARGIN_RATIO, ltr_label

CLASSES = 5
NU = 3.5  # degrees of freedom of TIE's Student-t
MIN_SPREAD = 0.05
MARGIN = 1.0
HIDDEN = 256  # of ALISE's MLP


class Head(nn.Module):
    """A linear head. Subclasses say what its outputs are; lengths are output tokens (batch,).

    `fit` sees all training lengths before the first step, for scales and cuts.
    """

    outputs = 1

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, self.outputs)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, pooled: Tensor) -> Tensor:
        """Raw outputs (batch, outputs) of pooled states (batch, width)."""
        return self.layer(pooled)

    def fit(self, lengths: Tensor) -> None:
        """Take scales from the training lengths."""
        self.scale.copy_(lengths.mean())

    def loss(self, raw: Tensor, lengths: Tensor) -> Tensor:
        """What training makes small: a number."""
        raise NotImplementedError

    def score(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Score and spread, each (batch,)."""
        return raw[:, 0], torch.ones_like(raw[:, 0])


class RegressionL1(Head):
    """SSJF: tokens over their mean, absolute error."""

    def loss(self, raw: Tensor, lengths: Tensor) -> Tensor:
        return functional.l1_loss(raw[:, 0], lengths / self.scale)


class RegressionMse(Head):
    """SSJF: tokens over their mean, squared error."""

    def loss(self, raw: Tensor, lengths: Tensor) -> Tensor:
        return functional.mse_loss(raw[:, 0], lengths / self.scale)


class Multiclass(Head):
    """SSJF: classes cut at the quintiles of the training lengths; score: expected ln tokens."""

    outputs = CLASSES

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.register_buffer("cuts", torch.zeros(CLASSES - 1))
        self.register_buffer("means", torch.zeros(CLASSES))

    def fit(self, lengths: Tensor) -> None:
        shares = torch.arange(1, CLASSES, device=lengths.device) / CLASSES
        self.cuts.copy_(torch.quantile(lengths, shares))
        logs, classes = lengths.clamp(min=1.0).log(), self.classes(lengths)
        for index in range(CLASSES):
            inside = logs[classes == index]
            # Lengths with many ties may leave a class empty: then it stands for its cut.
            below = self.cuts[min(index, CLASSES - 2)].clamp(min=1.0).log()
            self.means[index] = inside.mean() if len(inside) else below

    def classes(self, lengths: Tensor) -> Tensor:
        """0 for the shortest class to 4 for the longest."""
        return torch.bucketize(lengths, self.cuts)

    def loss(self, raw: Tensor, lengths: Tensor) -> Tensor:
        return functional.cross_entropy(raw, self.classes(lengths))

    def score(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        # Not a matrix product: the quantiser would take it for a layer.
        return (raw.softmax(1) * self.means).sum(1), torch.ones_like(raw[:, 0])


class Ordinal(Multiclass):
    """SSJF: the same classes in order; each output is the log odds of being beyond a cut."""

    outputs = CLASSES - 1

    def loss(self, raw: Tensor, lengths: Tensor) -> Tensor:
        beyond = (
            self.classes(lengths)[:, None] > torch.arange(self.outputs, device=raw.device)
        ).to(raw.dtype)
        return functional.binary_cross_entropy_with_logits(raw, beyond)

    def score(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        return raw.sigmoid().sum(1), torch.ones_like(raw[:, 0])


class ListMle(Head):
    """LTR: the likelihood of the batch's true order, shortest first, by labels of ten tokens."""

    def loss(self, raw: Tensor, lengths: Tensor) -> Tensor:
        labels = torch.tensor([ltr_label(length) for length in lengths.tolist()])
        shuffled = torch.randperm(len(labels))  # equal labels in no particular order
        order = shuffled[torch.argsort(labels[shuffled], descending=True, stable=True)]
        first = -raw[order.to(raw.device), 0]  # shorter prompts are to come first
        rest = torch.logcumsumexp(first.flip(0), 0).flip(0)
        return (rest - first).mean()


class PairwiseMargin(Head):
    """PARS: hinge with margin 1 over the batch's pairs whose lengths are 20 % apart."""

    def loss(self, raw: Tensor, lengths: Tensor) -> Tensor:
        longer = lengths[:, None] >= MARGIN_RATIO * lengths[None, :].clamp(min=1.0)
        gaps = raw[:, 0][:, None] - raw[:, 0][None, :]
        hinge = functional.relu(MARGIN - gaps) * longer
        return hinge.sum() / longer.sum().clamp(min=1)


class LogT(Head):
    """TIE: a Student-t of ln tokens, 3.5 degrees of freedom; score its place, spread its scale."""

    outputs = 2

    def fit(self, lengths: Tensor) -> None:
        self.scale.copy_(lengths.clamp(min=1.0).log().mean())

    def loss(self, raw: Tensor, lengths: Tensor) -> Tensor:
        place, spread = self.score(raw)
        gap = (lengths.clamp(min=1.0).log() - place) / spread
        return (spread.log() + (NU + 1) / 2 * torch.log1p(gap**2 / NU)).mean()

    def score(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        return raw[:, 0] + self.scale, functional.softplus(raw[:, 1]) + MIN_SPREAD


class RetrievalMlp(Head):
    """ALISE's decoder for prompts without neighbours: an MLP, absolute error of ln tokens."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.layer = nn.Sequential(
            nn.Linear(width, HIDDEN), nn.GELU(), nn.Dropout(0.1), nn.Linear(HIDDEN, 1)
        )

    def fit(self, lengths: Tensor) -> None:
        self.scale.copy_(lengths.clamp(min=1.0).log().mean())

    def loss(self, raw: Tensor, lengths: Tensor) -> Tensor:
        return functional.l1_loss(self.score(raw)[0], lengths.clamp(min=1.0).log())

    def score(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        return raw[:, 0] + self.scale, torch.ones_like(raw[:, 0])


KINDS: dict[str, type[Head]] = {
    "regression-l1": RegressionL1,
    "regression-mse": RegressionMse,
    "multiclass": Multiclass,
    "ordinal": Ordinal,
    "listmle": ListMle,
    "pairwise-margin": PairwiseMargin,
    "log-t": LogT,
    "retrieval": RetrievalMlp,
}


def bins_of(head: Head) -> tuple[float, ...]:
    """The cuts between its classes in tokens; none for heads without classes."""
    if not isinstance(head, Multiclass):
        return ()
    return tuple(cut for cut in head.cuts.tolist() if math.isfinite(cut))
