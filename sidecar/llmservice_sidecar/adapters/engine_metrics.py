"""What vLLM's own metrics page tells of it. Knows vLLM's names; knows no HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

_CACHE_CONFIG: Final = re.compile(r"^vllm:cache_config_info\{(.*)\} ", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')


def kv_cache_tokens(page: str) -> int | None:
    """How many tokens the engine's KV cache holds, over all its replicas; None if it is not told.

    `kv_cache_size_tokens` is per replica, and right where layers differ in what they keep;
    `num_gpu_blocks` (of all replicas together) x `block_size` stands in for it.
    """
    replicas = list(_cache_configs(page))
    sizes = [_whole(labels, "kv_cache_size_tokens") for labels in replicas]
    if known := [size for size in sizes if size]:
        return sum(known)
    blocks = [
        _whole(labels, "num_gpu_blocks") * _whole(labels, "block_size") for labels in replicas
    ]
    return max(blocks, default=0) or None


def _cache_configs(page: str) -> Iterator[Mapping[str, str]]:
    for match in _CACHE_CONFIG.finditer(page):
        yield dict(_LABEL.findall(match.group(1)))


def _whole(labels: Mapping[str, str], name: str) -> int:
    value = labels.get(name, "")
    return int(value) if value.isascii() and value.isdigit() else 0
