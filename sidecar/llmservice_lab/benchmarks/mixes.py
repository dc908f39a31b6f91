"""The shipped mixed workloads by name; sources: examples/workloads/README.md."""

from __future__ import annotations

from typing import Final

from llmservice_lab.benchmarks.work import FOLDER, Mix


def _shipped(name: str, about: str) -> Mix:
    return Mix(name=name, path=FOLDER / f"{name}.parquet", about=about)


CHAT: Final = _shipped(
    "chat",
    "volunteers' and arena prompts (OpenAssistant, Chatbot Arena)",
)
EXAM_CHAT: Final = _shipped(
    "exam-chat",
    "half exam questions, half users' tasks, one served model (MMLU-Pro, WildBench, Arena)",
)
LMSYS_CHAT: Final = _shipped(
    "lmsys-chat",
    "first answers in public chat, recorded up to 511 tokens (LMSYS-Chat-1M)",
)
REASONING: Final = _shipped(
    "reasoning",
    "a reasoning model in production, heavy tail (ServeGen, regenerated)",
)
AZURE_CODE: Final = _shipped(
    "azure-code",
    "code completion in production: long prompts, short answers (Azure 2023)",
)
LONG_PROMPTS: Final = _shipped(
    "long-prompts",
    "very long prompts, a third of them cached (Mooncake, production)",
)
AZURE_CHAT: Final = _shipped(
    "azure-chat",
    "chat with long prompts in production (Azure 2023)",
)

MIXES: Final = (CHAT, EXAM_CHAT, LMSYS_CHAT, REASONING, AZURE_CODE, LONG_PROMPTS)
# Sizes and times of the same requests, as a service saw them.
RECORDED: Final = (AZURE_CHAT, AZURE_CODE, LONG_PROMPTS, REASONING)
