"""A vLLM executor that waits instead of computing; server, scheduler and KV cache are real.

The true length of an answer comes with the request (`vllm_xargs: {"out_len": N}`) and shows only as
an end-of-text token at its end, so nothing in front of the model can know it. Written against the
executor interface of vLLM 0.32, which is internal: the version is pinned.
"""

# pyright: basic, reportMissingImports=false, reportIncompatibleMethodOverride=false
# torch and vllm exist in the engine's environment only.
# ruff: noqa: FBT001, FBT002, ARG002 - the signatures are vLLM's

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import torch
from vllm.v1.core.sched.output import NewRequestData, SchedulerOutput
from vllm.v1.executor.abstract import Executor
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.worker import worker_base

from llmservice_lab.engine.forced_length import forced_length
from llmservice_lab.engine.latency_model import LatencyModel, prompt_seed, token_at

_DEFAULT_KV_BYTES = 256 << 20


@dataclass(slots=True)
class Answer:
    """What is known of one request's answer; survives preemption, which keeps emitted tokens."""

    prompt_tokens: int
    seed: int
    length: int | None  # None: no end-of-text, as `ignore_eos` asks
    emitted: int = 0


class LatencyExecutor(Executor):
    """Answers every scheduled step after the time that the latency model says."""

    supports_pp = False
    supported_tasks = ("generate",)

    def _init_executor(self) -> None:
        self._model = LatencyModel.from_environment(os.environ)
        self._vocabulary = self.model_config.get_vocab_size()
        self._end_of_text = _end_of_text(self.model_config.hf_config)
        self._answers: dict[str, Answer] = {}

    def execute_model(self, scheduler_output: SchedulerOutput, non_block: bool = False) -> Any:
        """Wait as long as the step would take, then give each request that is due its token."""
        for request_id in scheduler_output.finished_req_ids:
            self._answers.pop(request_id, None)
        computed = self._computed_tokens(scheduler_output)
        request_ids = list(scheduler_output.num_scheduled_tokens)
        sampled: list[list[int]] = []
        decodes = prefill_tokens = 0
        for request_id in request_ids:
            answer = self._answers[request_id]
            scheduled = scheduler_output.num_scheduled_tokens[request_id]
            reached = computed[request_id] + scheduled
            if scheduled == 1 and reached > answer.prompt_tokens:
                decodes += 1
            else:
                prefill_tokens += scheduled
            # A chunk of a prefill, or of the recomputation after a preemption, yields nothing yet.
            due = reached >= answer.prompt_tokens + answer.emitted
            sampled.append([self.next_token(answer)] if due else [])
        if request_ids:
            self.wait(self._model.duration_s(decodes=decodes, prefill_tokens=prefill_tokens))
        return _answered(request_ids, sampled, non_block=non_block)

    def _computed_tokens(self, scheduler_output: SchedulerOutput) -> dict[str, int]:
        computed: dict[str, int] = {}
        for new in scheduler_output.scheduled_new_reqs:
            # Already known: it was preempted and comes back as new.
            if new.req_id not in self._answers:
                self._answers[new.req_id] = self._planned(new)
            computed[new.req_id] = new.num_computed_tokens
        cached = scheduler_output.scheduled_cached_reqs
        computed.update(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
        return computed

    def _planned(self, new: NewRequestData) -> Answer:
        prompt = new.prompt_token_ids or []
        params = new.sampling_params
        seed = prompt_seed(prompt)
        length = forced_length(params.extra_args) if params else None
        if length is None:
            length = self._model.output_tokens(seed)
            if params:
                length = max(length, params.min_tokens + 1)
        if params and params.ignore_eos:
            length = None
        return Answer(prompt_tokens=len(prompt), seed=seed, length=length)

    def wait(self, seconds: float) -> None:
        """Let the time of a step pass; on virtual time a subclass only notes it."""
        time.sleep(seconds)

    def next_token(self, answer: Answer) -> int:
        """The token that follows those emitted so far."""
        answer.emitted += 1
        if answer.emitted == answer.length:
            return self._end_of_text
        return token_at(answer.seed, answer.emitted, vocabulary=self._vocabulary)

    def get_kv_cache_specs(self) -> list[dict[str, KVCacheSpec]]:
        """One small attention layer: 256 bytes a token, so a cache's size is easy to choose."""
        layer = FullAttentionSpec(
            block_size=self.cache_config.block_size,
            num_kv_heads=1,
            head_size=64,
            dtype=torch.bfloat16,
        )
        return [{"model.layers.0.self_attn.attn": layer}]

    def get_supported_kv_cache_layouts(self) -> list[list[str]]:
        """Any layout would do; this is the one that CPU attention uses."""
        return [["LBHNC"]]

    def set_kv_cache_layout(self, layout_name: str) -> None:
        """Record the layout, as a worker would."""
        worker_base.record_kv_cache_layout(self.cache_config, layout_name)

    def determine_available_memory(self) -> list[int]:
        """Bytes for the KV cache: what `--kv-cache-memory-bytes` says, else 256 MiB."""
        return [self.cache_config.kv_cache_memory_bytes or _DEFAULT_KV_BYTES]

    def initialize_from_config(self, kv_cache_configs: list[KVCacheConfig]) -> None:
        """No cache is allocated: only its bookkeeping is real."""

    def compile_or_warm_up_model(self) -> None:
        """There is no model."""

    def collective_rpc(
        self,
        method: str | Callable[..., Any],
        timeout: float | None = None,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        non_block: bool = False,
    ) -> Any:
        """Housekeeping calls to workers have nobody to reach and succeed."""
        if non_block:
            done: Future[list[None]] = Future()
            done.set_result([None])
            return done
        return [None]

    def check_health(self) -> None:
        """Always well."""

    def shutdown(self) -> None:
        """Nothing to free."""


def _end_of_text(hf_config: Any) -> int:
    token = hf_config.eos_token_id
    return int(token[0] if isinstance(token, list) else token)


def _answered(request_ids: list[str], sampled: list[list[int]], *, non_block: bool) -> Any:
    output = ModelRunnerOutput(
        req_ids=request_ids,
        req_id_to_index={request_id: index for index, request_id in enumerate(request_ids)},
        sampled_token_ids=sampled,
    )
    if not non_block:
        return output
    done: Future[ModelRunnerOutput] = Future()
    done.set_result(output)
    return done
