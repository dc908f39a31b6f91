"""From a workload row to an OpenAI request whose answer has the recorded length, unseen.

The length goes to the engine's logits processor in the opaque `vllm_xargs`; `max_tokens` is the
same for every request, so nothing in front of the engine can tell them apart by it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, cast

from llmservice_lab.load import Call, LoadClient

CHAT_PATH: Final = "/v1/chat/completions"
OUT_LEN: Final = "out_len"
TENANT_HEADER: Final = "x-gateway-inference-fairness-id"  # the default of queue.fairness
TIMEOUT_HEADER: Final = "x-request-timeout-ms"
_PROBE_LENGTHS: Final = (3, 7)
_PROBE_MAX_TOKENS: Final = 16
_BUCKET: Final = 64
_FILLER: Final = "word "


class Row(Protocol):
    """What a request is made of; a workload row has it."""

    @property
    def prompt(self) -> str | None: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def output_tokens(self) -> int: ...
    @property
    def tenant(self) -> str | None: ...
    @property
    def deadline_s(self) -> float | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Forcing:
    """Whether the engine honours forced lengths; `reason` says why not."""

    works: bool
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFactory:
    """Makes streaming chat requests: their prompt, forced length, tenant and deadline differ."""

    model: str
    max_tokens: int
    force_lengths: bool

    def call(self, row: Row, *, rng: random.Random) -> Call:
        """The request of one row, in a sampled trace of its own."""
        body: dict[str, object] = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt_text(row)}],
            "max_tokens": self.max_tokens,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self.force_lengths:
            body["vllm_xargs"] = {OUT_LEN: min(row.output_tokens, self.max_tokens)}
        return Call(
            path=CHAT_PATH,
            body=body,
            trace_id=f"{rng.getrandbits(128) | 1:032x}",  # all zeros is not a valid id
            span_id=f"{rng.getrandbits(64) | 1:016x}",
            headers=_headers(row),
        )


def _headers(row: Row) -> dict[str, str]:
    """Who a row belongs to and how long it has; its priority has no name that a service knows."""
    headers: dict[str, str] = {}
    if row.tenant is not None:
        headers[TENANT_HEADER] = row.tenant
    if row.deadline_s is not None:
        headers[TIMEOUT_HEADER] = str(max(1, round(row.deadline_s * 1000)))
    return headers


def prompt_text(row: Row) -> str:
    """The recorded prompt; a filler of about its length where the recording has no text."""
    return row.prompt if row.prompt is not None else _FILLER * max(row.prompt_tokens, 1)


def common_max_tokens(rows: Sequence[Row]) -> int:
    """The one `max_tokens` of a workload: its longest answer, rounded up to a multiple of 64."""
    longest = max(row.output_tokens for row in rows)
    return -(-longest // _BUCKET) * _BUCKET


async def first_model(client: LoadClient) -> str:
    """The first model that the server lists. Raises LookupError when it lists none."""
    listed = (await client.get("/v1/models")).get("data")
    if not isinstance(listed, list) or not listed:
        raise LookupError("the server lists no model")
    return str(cast("Mapping[str, object]", listed[0])["id"])


async def probe_forcing(client: LoadClient, *, model: str) -> Forcing:
    """Ask for two short answers of given lengths: does the engine obey?"""
    for length in _PROBE_LENGTHS:
        status, answer = await client.post(
            CHAT_PATH,
            {
                "model": model,
                "messages": [{"role": "user", "content": "Count to ten."}],
                "max_tokens": _PROBE_MAX_TOKENS,
                "temperature": 0.0,
                "vllm_xargs": {OUT_LEN: length},
            },
        )
        if status == 400:
            return Forcing(
                works=False,
                reason=f"the server refuses vllm_xargs.{OUT_LEN} "
                f"(allow it with spec.engine.allowedExtraArgs: [{OUT_LEN}])",
            )
        if status != 200:
            raise LookupError(f"a first request was answered HTTP {status}: {str(answer)[:300]}")
        usage = cast("Mapping[str, int]", answer["usage"])
        if usage["completion_tokens"] != length:
            return Forcing(
                works=False,
                reason="the engine has no forced-length processor "
                f"(asked for {length} tokens, got {usage['completion_tokens']})",
            )
    return Forcing(works=True)
