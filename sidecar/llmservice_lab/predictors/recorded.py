"""A fine-tuned proxy's directory that knows the answers: the oracle, served like any proxy.

For measurements alone: its tokenizer holds the prompts themselves, each of them one token, and its
network is a table of their lengths. Needs onnx.
"""

# pyright: basic
# onnx has no types worth the name.

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from llmservice_sidecar.adapters.openai_prompt import bounded
from llmservice_sidecar.adapters.predictors.proxies.proxy_card import (
    FORMAT,
    MODEL_FILE,
    SCORE,
    SPREAD,
    TOKENIZER_FILE,
    Calibration,
    Card,
    write_card,
)
from tokenizers import Tokenizer, models

_UNKNOWN: Final = "[UNK]"
_MAX_TOKENS: Final = 4096  # at 12 characters each no prompt that passes the doors is cut
_OPSET: Final = 13
_IR: Final = 8  # any onnxruntime of the last years reads it
# A score is ln tokens as it is, and there is no doubt about it.
_AS_IT_IS: Final = Calibration(
    scores=(0.0, 16.0), log_tokens=(0.0, 16.0), log_mean_ratio=(0.0, 0.0), p50=(0.0, 0.0),
    p90=(0.0, 0.0),
)  # fmt: skip


def write_recorded(directory: Path, lengths: Mapping[str, float]) -> Path:
    """Write the directory for prompts and their answers' tokens; NaN is passed on as it is.

    Of a prompt that is not among them it says the mean. Raises ImportError without onnx, ValueError
    when there are no prompts.
    """
    if not lengths:
        raise ValueError("no prompt whose answer's length could be known")
    directory.mkdir(parents=True, exist_ok=True)
    known = {bounded(prompt): tokens for prompt, tokens in lengths.items()}
    logs = [math.log(max(tokens, 1.0)) for tokens in known.values()]
    sizes = [math.exp(log) for log in logs if math.isfinite(log)] or [1.0]
    mean = math.log(math.fsum(sizes) / len(sizes))
    vocabulary = {_UNKNOWN: 0, **{prompt: at for at, prompt in enumerate(known, start=1)}}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token=_UNKNOWN))
    words.save(str(directory / TOKENIZER_FILE))
    (directory / MODEL_FILE).write_bytes(_table([mean, *logs]))
    card = Card(
        format_version=FORMAT,
        head="recorded",
        base="a table of the recorded lengths",
        max_tokens=_MAX_TOKENS,
        seed=0,
        calibration=_AS_IT_IS,
    )
    write_card(directory, card)
    return directory


def _table(scores: list[float]) -> bytes:
    """A network whose score is the entry of the prompt's only token."""
    import onnx  # noqa: PLC0415 - a development tool
    from onnx import TensorProto, helper  # noqa: PLC0415

    ids, mask = (
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
        for name in ("input_ids", "attention_mask")
    )
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch"])
        for name in (SCORE, SPREAD)
    ]
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["input_ids"], ["token"], axes=[1], keepdims=0),
            helper.make_node("Gather", ["scores", "token"], [SCORE]),
            helper.make_node("Gather", ["ones", "token"], [SPREAD]),
        ],
        "recorded",
        [ids, mask],
        outputs,
        [
            helper.make_tensor("scores", TensorProto.FLOAT, [len(scores)], scores),
            helper.make_tensor("ones", TensorProto.FLOAT, [len(scores)], [1.0] * len(scores)),
        ],
    )
    opset = helper.make_opsetid("", _OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=_IR)
    onnx.checker.check_model(model)
    return model.SerializeToString()
