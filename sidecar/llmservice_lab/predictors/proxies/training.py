"""The training loop: balanced over sources, stopped early on val, resumable. Needs torch."""

# pyright: basic, reportMissingImports=false
# torch and transformers exist in the extra `predictor` only.

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmservice_lab.predictors.figures import tau_b
from llmservice_lab.predictors.proxies.encoder import FrozenPrefix
from llmservice_lab.predictors.proxies.network import Network
from llmservice_lab.predictors.proxies.options import OnProgress, TrainOptions
from llmservice_lab.predictors.targets import Target

CHECKPOINT = "checkpoint.pt"
PER_SOURCE = 1500  # prompts of a source in an epoch: a large exam must not drown the chat
HEAD_RATE = 20  # times that of the encoder: the head starts from nothing
WARM_UP = 0.1  # of all steps
WEIGHT_DECAY = 0.01
MAX_NORM = 1.0
MIN_PROMPTS = 20  # of a source in val, for its rank correlation
BATCH = 64


@dataclass(slots=True)
class Prompts:
    """Prompts of one run: ids, and what is to be learned of them; train first, then val."""

    ids: Sequence[Sequence[int]]
    targets: Sequence[Target]
    train: int  # how many of them train


class Training:
    """One run over prepared prompts; the network holds the best weights when it ends."""

    def __init__(
        self, network: Network, prefix: FrozenPrefix, prompts: Prompts, *, options: TrainOptions
    ) -> None:
        self._network = network
        self._prefix = prefix
        self._prompts = prompts
        self._options = options
        self._lengths = torch.tensor(
            [math.exp(target.log_tokens) for target in prompts.targets],
            device=next(network.parameters()).device,
        )
        network.head.fit(self._lengths[: prompts.train])
        self._batches = len(self._epoch_order(0)) // options.batch or 1
        self._optimizer, self._schedule = self._optimisers()
        self._best: dict[str, Tensor] = {}
        self._best_tau = -math.inf
        self._stale = 0
        self.epochs = 0

    def run(self, on_progress: OnProgress) -> float:
        """Train until it gets no better; the best mean tau over val's sources.

        Raises ValueError when a checkpoint belongs to another run.
        """
        path = self._options.out / CHECKPOINT
        if self._options.resume and path.exists():
            self._restore(path)
        total = self._options.epochs * self._batches
        while self.epochs < self._options.epochs and self._stale < self._options.patience:
            remark = "" if math.isinf(self._best_tau) else f"tau {self._best_tau:.3f}"
            for step in self._epoch():
                on_progress("training", self.epochs * self._batches + step, total, remark)
            self._judge()
            self.epochs += 1
            self._save(path)
        on_progress("training", total, total, f"tau {self._best_tau:.3f}")
        self._network.load_state_dict(self._best, strict=False)
        return self._best_tau

    def scores(self, chosen: Sequence[int]) -> np.ndarray:
        """The network's scores of the chosen prompts as it stands."""
        self._network.eval()
        found: list[np.ndarray] = []
        with torch.no_grad():
            for start in range(0, len(chosen), BATCH):
                pooled = self._prefix.pooled(self._prompts.ids, chosen[start : start + BATCH])
                found.append(self._network.said(pooled)[0].double().cpu().numpy())
        return np.concatenate(found)

    def _epoch(self):
        # A seed an epoch: a resumed run goes on exactly as one that was never interrupted.
        torch.manual_seed(self._options.seed * 1000 + self.epochs)
        order = self._epoch_order(self.epochs)
        self._network.train()
        for step in range(self._batches):
            size = self._options.batch
            chosen = order[step * size : (step + 1) * size]
            raw = self._network.head(self._prefix.pooled(self._prompts.ids, chosen))
            loss = self._network.head.loss(raw, self._lengths[chosen])
            self._optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._network.parameters(), MAX_NORM)
            self._optimizer.step()
            self._schedule.step()
            yield step + 1

    def _epoch_order(self, epoch: int) -> list[int]:
        rng = random.Random(self._options.seed * 1000 + epoch)  # noqa: S311 - an order, no secret
        by_source: dict[str, list[int]] = defaultdict(list)
        for index, target in enumerate(self._prompts.targets[: self._prompts.train]):
            by_source[target.source].append(index)
        chosen = [
            index
            for indices in by_source.values()
            for index in rng.sample(indices, min(len(indices), PER_SOURCE))
        ]
        rng.shuffle(chosen)
        return chosen

    def _judge(self) -> None:
        validation = range(self._prompts.train, len(self._prompts.targets))
        scores = self.scores(validation)
        tau = validation_tau(scores, [self._prompts.targets[index] for index in validation])
        self._stale += 1
        if tau > self._best_tau:
            self._best_tau, self._stale = tau, 0
            self._best = {name: value.clone() for name, value in self._trained().items()}

    def _trained(self) -> dict[str, Tensor]:
        learns = {name for name, value in self._network.named_parameters() if value.requires_grad}
        state = self._network.state_dict()
        return {name: state[name].detach().cpu() for name in state if name in learns}

    def _optimisers(self):
        options = self._options
        body = [p for p in self._network.encoder.parameters() if p.requires_grad]
        groups = [
            {
                "params": list(self._network.head.parameters()),
                "lr": HEAD_RATE * options.learning_rate,
            }
        ]
        if body:
            groups.append({"params": body, "lr": options.learning_rate})
        optimizer = torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY)
        total = options.epochs * self._batches
        warm = max(int(WARM_UP * total), 1)

        def rate(step: int) -> float:
            return min((step + 1) / warm, max(total - step, 0) / max(total - warm, 1))

        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, rate)

    def _save(self, path: Path) -> None:
        state = {
            "identity": self._identity(),
            "epochs": self.epochs,
            "stale": self._stale,
            "best_tau": self._best_tau,
            "best": self._best,
            "trained": self._trained(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
        }
        partial = path.with_suffix(".part")
        torch.save(state, partial)
        partial.replace(path)  # an interrupted write leaves the checkpoint before it

    def _identity(self) -> dict[str, Any]:
        return {**self._options.identity(), "prompts": self._prompts.train}

    def _restore(self, path: Path) -> None:
        state = torch.load(path, weights_only=True, map_location="cpu")
        mine = self._identity()
        other = {name for name in mine if state["identity"].get(name) != mine[name]}
        if other:
            was = {name: state["identity"].get(name) for name in sorted(other)}
            raise ValueError(f"{path} is of another run, with {was}: use its options, or remove it")
        self.epochs, self._stale = state["epochs"], state["stale"]
        self._best_tau, self._best = state["best_tau"], state["best"]
        self._network.load_state_dict(state["trained"], strict=False)
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])


def validation_tau(scores: np.ndarray, targets: Sequence[Target]) -> float:
    """Mean over sources of scores' rank correlation with targets; all as one if all are few."""
    by_source: dict[str, list[int]] = defaultdict(list)
    for index, target in enumerate(targets):
        by_source[target.source].append(index)
    lengths = np.array([target.log_tokens for target in targets])
    large = [np.array(rows) for rows in by_source.values() if len(rows) >= MIN_PROMPTS]
    taus = [tau_b(scores[rows], lengths[rows]) or 0.0 for rows in large]
    return sum(taus) / len(taus) if taus else (tau_b(scores, lengths) or 0.0)
