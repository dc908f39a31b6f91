"""vLLM's own engine core on virtual time: its scheduler, KV cache manager and requests, no model.

Runs in the engine's environment. Nothing sleeps and nothing is sent: a step takes the seconds that
the cost model says of what the scheduler really scheduled. Written against vLLM's internals, as
`engine.latency_executor` is: the version is pinned.
"""

# pyright: basic, reportMissingImports=false
# torch and vllm exist in the engine's environment only.

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, cast

from vllm import EngineArgs, SamplingParams
from vllm.config import VllmConfig
from vllm.v1.engine.core import EngineCore
from vllm.v1.request import Request

from llmservice_lab.cost_model import CostModel
from llmservice_lab.engine.forced_length import OUT_LEN
from llmservice_lab.engine.latency_model import LatencyModel
from llmservice_lab.engine.schedulers.hints import PREDICTED_TOKENS
from llmservice_lab.engine.virtual_executor import END_OF_TEXT, FILLER, VirtualExecutor
from llmservice_lab.sim_engine import BLOCK_TOKENS, EngineOptions, Progress, Starting

_BLOCK_BYTES: Final = BLOCK_TOKENS * 256  # of the executor's one attention layer
# An ample cache holds all requests of a run up to this: beyond it only bookkeeping grows.
_AMPLE_TOKENS: Final = 8_000_000
_FIRST_OWN_TOKEN: Final = 1000

_CONFIG: Final = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "vocab_size": 4096,
    "bos_token_id": 1,
    "eos_token_id": END_OF_TEXT,
    "dtype": "bfloat16",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What the engine has to hold: tokens of the longest request and of all of them together."""

    longest: int
    total: int


class VllmEngine:
    """One engine core. `directory` gets the configuration of a model that has no weights.

    Raises ValueError when the longest request does not fit into `kv_tokens`.
    """

    def __init__(
        self,
        costs: CostModel,
        *,
        slots: int,
        sizes: Sizes,
        directory: Path,
        options: EngineOptions,
    ) -> None:
        os.environ.update(LatencyModel(**asdict(costs)).to_environment())
        self._longest = sizes.longest
        config = _vllm_config(directory, slots=slots, sizes=sizes, options=options)
        self._core = EngineCore(config, VirtualExecutor, log_stats=False)
        self._executor = cast("VirtualExecutor", self._core.model_executor)
        self._requests: dict[int, Request] = {}
        self._now = 0.0
        self._last_sent_s = -math.inf
        self._step: Progress | None = None  # done inside vLLM, not yet over outside

    def start(self, request: Starting, *, now: float) -> None:
        """A request joins at the next step; at once when the engine is idle."""
        if self._step is None:
            self._now = max(self._now, now)
        # No two alike: vLLM preempts the latest, and of equals the first that it comes across.
        self._last_sent_s = max(now, math.nextafter(self._last_sent_s, math.inf))
        made = Request(
            request_id=str(request.index),
            prompt_token_ids=_prompt(request),
            sampling_params=_sampling(request, longest=self._longest),
            pooling_params=None,
            arrival_time=self._last_sent_s,
            priority=-request.priority,  # of two the smaller is vLLM's first
            block_hasher=self._core.request_block_hasher,
        )
        self._requests[request.index] = made
        self._core.add_request(made)

    def next_event_s(self) -> float | None:
        """When the step that runs now ends; None when idle."""
        if self._step is None:
            if not self._requests:
                return None
            self._step = self._run_step()
        return self._step.now

    def advance(self) -> Progress:
        """The end of the step. Call `next_event_s` before; the engine must not be idle."""
        assert self._step is not None
        step, self._step = self._step, None
        self._now = step.now
        for index in step.finished:
            del self._requests[index]
        return step

    def emitted(self, *, now: float) -> Iterable[tuple[int, int]]:  # noqa: ARG002 - protocol
        """Index and output tokens so far of every request that has some."""
        running = 0 if self._step is None else 1
        for index, request in self._requests.items():
            # The step that runs has given its tokens inside vLLM already.
            tokens = request.num_output_tokens - running
            if tokens > 0:
                yield index, tokens

    def close(self) -> None:
        """Give its memory back."""
        self._core.shutdown()

    def _run_step(self) -> Progress:
        outputs, worked = self._core.step()
        preempted = self._executor.preempted
        while not worked:
            # A step in which somebody preempted itself may be left with nothing to do, at no cost.
            if not self._executor.preempted:
                raise RuntimeError(f"vLLM scheduled none of {len(self._requests)} requests")
            outputs, worked = self._core.step()
            preempted = preempted + self._executor.preempted
        first_tokens: list[int] = []
        finished: list[int] = []
        for batch in outputs.values():
            for output in batch.outputs:
                index = int(output.request_id)
                if self._requests[index].num_output_tokens == 1:
                    first_tokens.append(index)
                if output.finish_reason is not None:
                    finished.append(index)
        return Progress(
            began_s=self._now,
            now=self._now + self._executor.step_s,
            scheduled=[int(each) for each in self._executor.scheduled],
            first_tokens=first_tokens,
            finished=finished,
            preempted=[int(each) for each in preempted],
        )


def sizes_of(requests: Sequence[tuple[int, int]]) -> Sizes:
    """What an engine for these (prompt tokens, output tokens) has to hold."""
    tokens = [max(prompt, 1) + output for prompt, output in requests]
    return Sizes(longest=max(tokens), total=sum(tokens))


def _prompt(request: Starting) -> list[int]:
    """Token ids: what is cached is shared by all, then the request's own token starts its own way.

    The answer is filler, so that prompt and answer of an earlier slice are found in the cache.
    """
    total = max(request.prompt_tokens + request.generated_tokens, 1)
    shared = min(request.cached_tokens, max(request.prompt_tokens, 1) - 1)
    own = [_FIRST_OWN_TOKEN + request.index]
    return [FILLER] * shared + own + [FILLER] * (total - shared - 1)


def _sampling(request: Starting, *, longest: int) -> SamplingParams:
    extra = {PREDICTED_TOKENS: request.predicted_tokens}
    if request.ends:
        # The end is the executor's secret, as with a real model.
        extra[OUT_LEN] = request.output_tokens
    sampling = SamplingParams(
        max_tokens=longest if request.ends else request.output_tokens,
        ignore_eos=not request.ends,
        detokenize=False,
        extra_args=extra,
    )
    sampling._eos_token_id = None if sampling.ignore_eos else END_OF_TEXT  # noqa: SLF001 - set by vLLM's front end
    return sampling


def _vllm_config(
    directory: Path, *, slots: int, sizes: Sizes, options: EngineOptions
) -> VllmConfig:
    ample = max(min(sizes.total, _AMPLE_TOKENS), slots * sizes.longest)
    kv_tokens = ample if options.kv_tokens is None else options.kv_tokens
    if kv_tokens < sizes.longest:
        raise ValueError(
            f"kv_tokens is {kv_tokens}; allowed: at least {sizes.longest}, the longest request"
        )
    # One token of margin: a request that reaches the model's length is cut.
    length = sizes.longest + 1
    config = _CONFIG | {"max_position_embeddings": length}
    (directory / "config.json").write_text(json.dumps(config))
    blocks = -(-kv_tokens // BLOCK_TOKENS) + 1  # vLLM keeps one for itself
    return EngineArgs(
        model=str(directory),
        skip_tokenizer_init=True,
        enforce_eager=True,
        max_model_len=length,
        max_num_seqs=slots,
        max_num_batched_tokens=max(options.max_batched_tokens, slots),
        block_size=BLOCK_TOKENS,
        kv_cache_memory_bytes=blocks * _BLOCK_BYTES,
        enable_prefix_caching=options.prefix_caching,
        disable_log_stats=True,
        scheduling_policy="priority",
        scheduler_cls=options.scheduler_class,
        async_scheduling=False,
        distributed_executor_backend=VirtualExecutor,
    ).create_engine_config()
