"""Files in the safetensors format, of any size, made without a library."""

from __future__ import annotations

import json
import random
import struct


def safetensors(size: int, *, seed: int = 0) -> bytes:
    """A valid file with one tensor of `size` random bytes."""
    entry = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    header = json.dumps({"weight": entry}).encode()
    return struct.pack("<Q", len(header)) + header + random.Random(seed).randbytes(size)


def model_files(size: int = 40_000, *, seed: int = 0) -> dict[str, bytes]:
    """A small model: configuration, tokenizer, weights; beside them what is not taken."""
    return {
        "config.json": b'{"model_type": "llama"}',
        "tokenizer.json": b"{}",
        "model.safetensors": safetensors(size, seed=seed),
        "pytorch_model.bin": b"pickle",
        "modeling.py": b"raise SystemExit",
        "original/consolidated.safetensors": b"twice",
        ".gitattributes": b"",
        "README.md": b"# Model",
    }
