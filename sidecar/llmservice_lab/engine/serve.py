"""vLLM's own API server for tests on a CPU, started fast, with the real model or a latency model.

    python -m llmservice_lab.engine.serve --executor latency --step-ms 5 --model DIR [vllm flags]

The engine process is forked from the server's, and the model's class is looked at in this one,
instead of importing everything a second and a third time.
"""

# pyright: basic, reportMissingImports=false
# vllm exists in the engine's environment only.

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from llmservice_lab.engine.cpu import CPU_ENVIRONMENT, FORCED_LENGTH
from llmservice_lab.engine.latency_model import LatencyModel

_LATENCY_EXECUTOR = "llmservice_lab.engine.latency_executor.LatencyExecutor"


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Split our own flags from those that go to vLLM."""
    defaults = LatencyModel()
    parser = argparse.ArgumentParser(prog="python -m llmservice_lab.engine.serve")
    parser.add_argument("--executor", choices=("latency", "model"), default="latency")
    for flag, default, text in (
        ("--step-ms", defaults.step_s * 1e3, "milliseconds of every step"),
        ("--decode-ms", defaults.per_decode_s * 1e3, "milliseconds more per decoding request"),
        ("--prefill-token-ms", defaults.per_prefill_token_s * 1e3, "milliseconds per prompt token"),
        ("--mean-output-tokens", defaults.mean_output_tokens, "mean length without out_len"),
    ):
        parser.add_argument(flag, type=float, default=default, help=f"{text} (default {default:g})")
    return parser.parse_known_args(arguments)


def latency_model(options: argparse.Namespace) -> LatencyModel:
    """The latency model that the flags describe."""
    return LatencyModel(
        step_s=options.step_ms / 1e3,
        per_decode_s=options.decode_ms / 1e3,
        per_prefill_token_s=options.prefill_token_ms / 1e3,
        mean_output_tokens=options.mean_output_tokens,
    )


def main() -> None:
    """Serve until a signal ends it."""
    options, rest = parse(sys.argv[1:])
    for name, value in CPU_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if options.executor == "latency":
        # The engine process inherits the environment: no other way into vLLM's construction.
        os.environ.update(latency_model(options).to_environment())
        rest += ["--distributed-executor-backend", _LATENCY_EXECUTOR]
        # It refuses a bad forced length at the door: in the executor that would end the engine.
        if not any(argument.startswith("--logits-processors") for argument in rest):
            rest += ["--logits-processors", FORCED_LENGTH]
    sys.argv[1:] = rest
    _look_at_the_model_here()
    _fork_the_engine()
    from vllm.entrypoints.launchers.api_server.entry import main as serve  # noqa: PLC0415

    serve()


def _look_at_the_model_here() -> None:
    # vLLM imports the model's class in a process of its own, so that this one touches no GPU: on a
    # CPU that is a second import of torch for nothing.
    from vllm.model_executor.models import registry  # noqa: PLC0415

    registry._run_in_subprocess = lambda inspect: inspect()  # noqa: SLF001 - the seam


def _fork_the_engine() -> None:
    # vLLM's CPU platform sets "spawn" while the configuration is built, and the engine process is
    # started right after: this is the only moment between the two.
    import vllm.v1.engine.core  # noqa: F401, PLC0415 - imported before the fork, not after it
    from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415

    original = AsyncLLM.from_vllm_config.__func__  # type: ignore[attr-defined] - a classmethod

    def from_vllm_config(cls: type[AsyncLLM], *args: Any, **kwargs: Any) -> AsyncLLM:
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
        return original(cls, *args, **kwargs)

    AsyncLLM.from_vllm_config = classmethod(from_vllm_config)  # type: ignore[method-assign] - the seam


if __name__ == "__main__":
    main()
