"""The shipped mixed workloads by name; sources: examples/workloads/README.md."""

from __future__ import annotations

from typing import Final

from llmservice_lab.benchmarks.work import FOLDER, Mix

CHAT: Final = Mix(
    name="chat",
    path=FOLDER / "chat.parquet",
    about="volunteers' and arena prompts (OpenAssistant, Chatbot Arena)",
)
EXAM_CHAT: Final = Mix(
    name="exam-chat",
    path=FOLDER / "exam-chat.parquet",
    about="half exam questions, half users' tasks, one served model (MMLU-Pro, WildBench, Arena)",
)
LMSYS_CHAT: Final = Mix(
    name="lmsys-chat",
    path=FOLDER / "lmsys-chat.parquet",
    about="first answers in public chat, recorded up to 511 tokens (LMSYS-Chat-1M)",
)
REASONING: Final = Mix(
    name="reasoning",
    path=FOLDER / "reasoning.parquet",
    about="a reasoning model in production, heavy tail (ServeGen, regenerated)",
)
AZURE_CODE: Final = Mix(
    name="azure-code",
    path=FOLDER / "azure-code.parquet",
    about="code completion in production: long prompts, short answers (Azure 2023)",
)
LONG_PROMPTS: Final = Mix(
    name="long-prompts",
    path=FOLDER / "long-prompts.parquet",
    about="very long prompts, a third of them cached (Mooncake, production)",
)
AZURE_CHAT: Final = Mix(
    name="azure-chat",
    path=FOLDER / "azure-chat.parquet",
    about="chat with long prompts in production (Azure 2023)",
)

MIXES: Final = (CHAT, EXAM_CHAT, LMSYS_CHAT, REASONING, AZURE_CODE, LONG_PROMPTS)
# Sizes and times of the same requests, as a service saw them.
RECORDED: Final = (AZURE_CHAT, AZURE_CODE, LONG_PROMPTS, REASONING)
