"""A LoRA adapter of the tiny model, in the format that vLLM and PEFT read."""

from __future__ import annotations

import json

import numpy as np
from safetensors.numpy import save

_HIDDEN, _LAYERS = 128, 2
_WIDTHS = {"q_proj": 128, "v_proj": 64}


def adapter_files(*, rank: int = 8, seed: int = 1) -> dict[str, bytes]:
    """Its two files; strong enough to change every answer."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    for layer in range(_LAYERS):
        for name, width in _WIDTHS.items():
            at = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            down = rng.normal(0, 1, (rank, _HIDDEN))
            up = rng.normal(0, 1, (width, rank))
            tensors[f"{at}.lora_A.weight"] = down.astype(np.float32)
            tensors[f"{at}.lora_B.weight"] = up.astype(np.float32)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tiny",
        "r": rank,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "target_modules": sorted(_WIDTHS),
        "bias": "none",
    }
    return {
        "adapter_config.json": json.dumps(config).encode(),
        "adapter_model.safetensors": save(tensors),
    }
