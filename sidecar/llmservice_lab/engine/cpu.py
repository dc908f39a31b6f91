"""How vLLM is started on a CPU: the environment and flags that `device: CPU` stands for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

ENTRY_MODULE: Final = "vllm.entrypoints.launchers.api_server.entry"
FORCED_LENGTH: Final = "llmservice_lab.engine.forced_length:ForcedLengthLogitsProcessor"

CPU_ENVIRONMENT: Final = {
    # One worker inside the engine process; the default starts a third process for it.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # The runner whose logits processor interface `forced_length` speaks.
    "VLLM_USE_V2_MODEL_RUNNER": "0",
    # Two threads that wait for each other on busy cores made a step 25 times slower.
    "OMP_NUM_THREADS": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}

CPU_ARGUMENTS: Final = (
    "--enforce-eager",
    "--kv-cache-memory-bytes=64M",
)

# The caller's interpreter settings are not the engine's.
_NOT_INHERITED: Final = frozenset({"VIRTUAL_ENV", "PYTHONHOME", "PYTHONSTARTUP"})


def engine_environment(sources: Iterable[Path]) -> dict[str, str]:
    """The environment of an engine on a CPU, a child of this process, that imports `sources`."""
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    return inherited | CPU_ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(map(str, sources))}
