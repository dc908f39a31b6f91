"""A trained network as files: safetensors, and int8 ONNX checked against torch. Needs both."""

# pyright: basic, reportMissingImports=false
# torch and onnx exist in the extra `predictor` only.

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from llmservice_sidecar.adapters.predictors.proxies.onnx_proxy import open_session
from llmservice_sidecar.adapters.predictors.proxies.proxy_card import (
    EMBEDDING,
    MODEL_FILE,
    SCORE,
    SPREAD,
    WEIGHTS_FILE,
)
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors.torch import save_model
from torch.export import Dim

from llmservice_lab.predictors.proxies.encoder import padded
from llmservice_lab.predictors.proxies.network import Network

OUTPUTS = (SCORE, SPREAD, EMBEDDING)
MAX_GAP = 0.01  # standard deviations of the score, float ONNX against torch


class ExportError(ValueError):
    """The exported file does not compute what the network does."""


def export(network: Network, directory: Path, *, samples: Sequence[Sequence[int]]) -> None:
    """Write `model.safetensors` and `model.onnx` (int8 weights).

    `samples` are token ids of at least two prompts. Raises ExportError when the exported network,
    before its weights become int8, says anything else than torch about them.
    """
    network.eval().to("cpu")
    save_model(network, str(directory / WEIGHTS_FILE))
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "float.onnx"
        _write(network, plain, samples)
        gap = score_gap(torch_scores(network, samples), onnx_scores(plain, samples))
        if gap > MAX_GAP:
            raise ExportError(
                f"ONNX differs from torch by {gap:.3g} standard deviations of the score"
            )
        _quantise(plain, directory / MODEL_FILE)


def torch_scores(network: Network, ids: Sequence[Sequence[int]]) -> np.ndarray:
    """Scores by torch, a prompt at a time as they are served."""
    device = next(network.parameters()).device
    with torch.no_grad():
        return np.array([float(network(*padded([row], device=device))[0]) for row in ids])


def onnx_scores(path: Path, ids: Sequence[Sequence[int]]) -> np.ndarray:
    """Scores by onnxruntime."""
    session = open_session(path)
    found: list[float] = []
    for row in ids:
        inputs = np.array([row], dtype=np.int64)
        feed = {"input_ids": inputs, "attention_mask": np.ones_like(inputs)}
        found.append(float(session.run([SCORE], feed)[0][0]))
    return np.array(found)


def score_gap(first: np.ndarray, second: np.ndarray) -> float:
    """The largest difference in standard deviations of the first."""
    return float(np.abs(first - second).max() / max(float(first.std()), 1e-6))


def _write(network: Network, path: Path, samples: Sequence[Sequence[int]]) -> None:
    example = padded(sorted(samples, key=len)[-2:], device=torch.device("cpu"))
    axes = {0: Dim("batch", min=1, max=256), 1: Dim("tokens", min=2, max=512)}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # about libraries that are not needed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations while it traces
        torch.onnx.export(
            network,
            example,
            path,
            dynamo=True,
            dynamic_shapes=(axes, axes),
            input_names=["input_ids", "attention_mask"],
            output_names=list(OUTPUTS),
            external_data=False,
            verbose=False,
        )


def _quantise(plain: Path, path: Path) -> None:
    model = onnx.load(plain)
    # torch notes shapes of weights before it transposes them, and the quantiser believes the notes.
    del model.graph.value_info[:]
    logging.getLogger().setLevel(logging.ERROR)  # the quantiser advises steps that are done
    # Seven bits: the sums of eight overflow on processors without VNNI, and are no closer to torch.
    quantize_dynamic(model, path, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)
