"""From a file of answers to a directory that serves: one training run. Needs torch."""

# pyright: basic, reportMissingImports=false
# torch exists in the extra `predictor` only.

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import TypeVar

import msgspec
import numpy as np
import torch
from llmservice_sidecar.adapters.predictors.proxies.onnx_proxy import (
    Bank,
    FloatArray,
    OnnxProxy,
    Score,
    nearest,
)
from llmservice_sidecar.adapters.predictors.proxies.proxy_card import (
    BANK_FILE,
    FORMAT,
    MODEL_FILE,
    TOKENIZER_FILE,
    Calibration,
    Card,
    Retrieval,
    write_card,
)
from llmservice_sidecar.adapters.predictors.proxies.proxy_text import ProxyText
from safetensors.numpy import save_file

from llmservice_lab.predictors.figures import tau_b
from llmservice_lab.predictors.proxies.calibrating import (
    Scored,
    cross_figures,
    fit_calibration,
    scored,
    source_figures,
)
from llmservice_lab.predictors.proxies.encoder import Encoder, FrozenPrefix, load_body
from llmservice_lab.predictors.proxies.export import export, onnx_scores, score_gap, torch_scores
from llmservice_lab.predictors.proxies.heads import KINDS, bins_of
from llmservice_lab.predictors.proxies.material import Material
from llmservice_lab.predictors.proxies.network import Network
from llmservice_lab.predictors.proxies.options import OnProgress, TrainOptions
from llmservice_lab.predictors.proxies.training import (
    CHECKPOINT,
    Prompts,
    Training,
    validation_tau,
)

CHECKED = 200  # prompts on which torch and the served file are compared
JUDGED = 1500  # prompts of val, and of test, that the served file is run on
BANK = 20_000  # prompts that ALISE's retrieval remembers
NEIGHBOURS = 8
SIMILARITIES = (0.5, 0.6, 0.7, 0.8, 0.9)  # tried on val
UNCALIBRATED = Calibration(
    scores=(0.0,), log_tokens=(0.0,), log_mean_ratio=(0.0,), p50=(0.0,), p90=(0.0,)
)

Item = TypeVar("Item")


def train_proxy(material: Material, options: TrainOptions, *, on_progress: OnProgress) -> Card:
    """Train, export, calibrate; what is served lies in `options.out` when it returns.

    Raises ValueError for what cannot be trained so, OSError for what cannot be written.
    """
    started = time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    network, text = _untrained(options)
    targets = [*material.train, *material.val]
    prompts = Prompts([text.ids(t.prompt) for t in targets], targets, len(material.train))
    prefix = FrozenPrefix(network.encoder, frozen=_frozen(options))
    prefix.compute(prompts.ids, lambda done: on_progress("frozen layers", done, len(targets), ""))
    training = Training(network, prefix, prompts, options=options)
    training.run(on_progress)
    export(network, options.out, samples=_some(prompts.ids, 16, seed=options.seed))
    retrieval = None
    if options.head == "retrieval":
        retrieval = _remember(prefix, prompts, network, options)
    gap, tau = _agreement(network, prompts, options)
    card = Card(
        format_version=FORMAT,
        head=options.head,
        base=options.base,
        max_tokens=options.max_tokens,
        seed=options.seed,
        bins=bins_of(network.head),
        calibration=UNCALIBRATED,
        offsets=dict(material.offsets),
        retrieval=retrieval,
        licences=material.licences,
        prompts=dict(material.prompts),
        frozen_layers=_frozen(options),
        epochs=training.epochs,
        onnx_gap=gap,
        tau_int8=tau,
    )
    write_card(options.out, card)
    card = _judged(material, options=options, on_progress=on_progress)
    card = msgspec.structs.replace(card, seconds=round(time.monotonic() - started, 1))
    write_card(options.out, card)
    (options.out / CHECKPOINT).unlink(missing_ok=True)
    return card


def _frozen(options: TrainOptions) -> int:
    """ALISE's encoder is never trained: its neighbours are those of the base model."""
    return -1 if options.head == "retrieval" else options.freeze_layers


def _untrained(options: TrainOptions) -> tuple[Network, ProxyText]:
    """The network before its first step, and how it reads prompts; writes the tokenizer."""
    device = _device(options.device)
    torch.manual_seed(options.seed)
    body, tokenizer = load_body(options.base)
    longest = getattr(body.config, "max_position_embeddings", options.max_tokens)
    if options.max_tokens > longest:
        raise ValueError(
            f"max_tokens is {options.max_tokens}; {options.base} reads at most {longest}"
        )
    tokenizer.save(str(options.out / TOKENIZER_FILE))
    head = KINDS[options.head](body.config.hidden_size)
    text = ProxyText(tokenizer, max_tokens=options.max_tokens)
    return Network(Encoder(body), head).to(device), text


def _judged(material: Material, *, options: TrainOptions, on_progress: OnProgress) -> Card:
    """The written card with its calibration and figures, from the very files that are served."""
    proxy = OnnxProxy.load(options.out)
    rows: dict[str, Scored] = {}
    for split in ("val", "test"):
        prompts = sorted({sample.prompt for sample in material.answers[split]})
        prompts = _some(prompts, JUDGED, seed=options.seed)
        scores: dict[str, Score] = {}
        for done, prompt in enumerate(prompts, start=1):
            scores[prompt] = proxy.score(prompt)
            on_progress(f"scoring {split}", done, len(prompts), "")
        rows[split] = scored(material.answers[split], scores, material.offsets)
    calibration = fit_calibration(rows["val"])
    return msgspec.structs.replace(
        proxy.card,
        calibration=calibration,
        validation=cross_figures(rows["val"]),
        test=source_figures(rows["test"], calibration),
    )


def _agreement(
    network: Network, prompts: Prompts, options: TrainOptions
) -> tuple[float, float | None]:
    """Of the served file with torch on val's prompts: the largest gap, and Kendall's tau."""
    ids = _some(prompts.ids[prompts.train :], CHECKED, seed=options.seed)
    exact = torch_scores(network, ids)
    served = onnx_scores(options.out / MODEL_FILE, ids)
    return score_gap(exact, served), tau_b(exact, served)


def _remember(
    prefix: FrozenPrefix, prompts: Prompts, network: Network, options: TrainOptions
) -> Retrieval:
    """Write the bank of training prompts; the least similarity is the best of five on val."""
    kept = _some(range(prompts.train), BANK, seed=options.seed)
    logs = np.array([prompts.targets[i].log_tokens for i in kept], dtype=np.float32)
    bank = Bank(_unit(prefix, prompts, kept), logs)
    asked = range(prompts.train, len(prompts.targets))
    vectors = _unit(prefix, prompts, asked)
    with torch.no_grad():
        otherwise = network.said(prefix.pooled(prompts.ids, asked).cpu())[0].tolist()

    near = [nearest(bank, vector, neighbours=NEIGHBOURS) for vector in vectors]

    def tau(similarity: float) -> float:
        found = [
            each.mean(min_similarity=similarity, otherwise=guess)
            for each, guess in zip(near, otherwise, strict=True)
        ]
        return validation_tau(np.array(found), [prompts.targets[i] for i in asked])

    save_file(
        {"vectors": bank.vectors.astype(np.float16), "log_tokens": bank.log_tokens},
        options.out / BANK_FILE,
    )
    return Retrieval(neighbours=NEIGHBOURS, min_similarity=max(SIMILARITIES, key=tau))


def _unit(prefix: FrozenPrefix, prompts: Prompts, chosen: Sequence[int]) -> FloatArray:
    vectors = prefix.pooled(prompts.ids, chosen).cpu().numpy()
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def _some(items: Sequence[Item], count: int, *, seed: int) -> list[Item]:
    return random.Random(seed).sample(items, min(count, len(items)))  # noqa: S311 - a sample, no secret


def _device(name: str) -> torch.device:
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise ValueError("device is 'cuda', but torch sees no GPU; allowed here: auto, cpu")
    return torch.device("cuda" if there and name != "cpu" else "cpu")
