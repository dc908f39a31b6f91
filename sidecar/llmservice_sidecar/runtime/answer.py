"""What an answer's bytes tell while they pass: events, the finish, the usage. Parses no content.

A streamed answer is forwarded as it came. Its events are counted, and only the last ones are
looked into: there the engine puts the usage that we always ask for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, cast

from llmservice_sidecar.core.errors import Reason

_END: Final = b"\n\n"
_DONE: Final = b"data: [DONE]"
# Inside a JSON string the quotes would be escaped, so content cannot look like this.
_USAGE_EVENT: Final = b'"choices":[]'
# Sent as soon as the engine has the request, before it computes anything.
_RESPONSE_BEGUN: Final = (b"event: response.created", b"event: response.in_progress")
_RESPONSE_END: Final = (b"event: response.completed", b"event: response.incomplete")
_LENGTH_MARKS: Final = (b'"finish_reason":"length"', b'"reason":"max_output_tokens"')


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts by the engine's own account, summed over all choices."""

    input_tokens: int
    output_tokens: int


class StreamMeter:
    """Passes the bytes of one event stream on and counts them.

    `keep_usage`: the client itself asked for the trailing usage event; else it is left out.
    """

    def __init__(self, *, keep_usage: bool) -> None:
        self.events: int = 0
        self.usage: Usage | None = None
        self.reason = Reason.STOP
        self.done = False  # the engine said that nothing follows
        self._keep_usage = keep_usage
        self._rest = b""
        self._before = b""

    def feed(self, chunk: bytes) -> bytes:
        """The bytes to pass on now: whole events; the start of an event waits for its end."""
        if self._rest:
            chunk = self._rest + chunk
            self._rest = b""
        if not chunk.endswith(_END):
            cut = chunk.rfind(_END) + len(_END)
            if cut < len(_END):  # not one whole event yet
                self._rest = chunk
                return b""
            self._rest = chunk[cut:]
            chunk = chunk[:cut]
        self.events += chunk.count(_END)
        if _USAGE_EVENT in chunk or _DONE in chunk or b"event: response." in chunk:
            chunk = self._look(chunk)
        self._before = chunk or self._before
        return chunk

    def rest(self) -> bytes:
        """What is left at the end of the stream: an event that was never ended."""
        rest, self._rest = self._rest, b""
        return rest

    def _look(self, chunk: bytes) -> bytes:
        kept: list[bytes] = []
        for event in chunk.split(_END)[:-1]:
            drop = False
            if _USAGE_EVENT in event and b'"usage":{' in event:
                drop = self._take_usage(event, before=kept[-1] if kept else self._before)
            elif event.startswith(_RESPONSE_END):
                self._take_response_end(event)
            elif event.startswith(_RESPONSE_BEGUN):
                self.events -= 1
            elif event.startswith(_DONE):
                self.done = True
            if not drop:
                kept.append(event + _END)
        return b"".join(kept)

    def _take_usage(self, event: bytes, *, before: bytes) -> bool:
        """Read the usage event; True if it must be left out of what the client gets."""
        if not event.startswith(b"data: "):
            return False
        document = _object(event.removeprefix(b"data: "))
        if document.get("choices") != []:
            return False
        self.usage = usage_of(document)
        self.events -= 1
        if any(mark in before for mark in _LENGTH_MARKS):
            self.reason = Reason.LENGTH
        return not self._keep_usage

    def _take_response_end(self, event: bytes) -> None:
        self.done = True
        data = event[event.find(b"data: ") + len(b"data: ") :]
        response = _object(data).get("response")
        if isinstance(response, dict):
            self.usage = usage_of(cast("dict[str, Any]", response))
        if any(mark in event for mark in _LENGTH_MARKS):
            self.reason = Reason.LENGTH


@dataclass(frozen=True, slots=True)
class WholeAnswer:
    """What a body in one piece says of itself."""

    usage: Usage | None
    reason: Reason


def read_whole(body: bytes) -> WholeAnswer:
    """Usage and finish of a complete JSON answer; the body itself is passed on untouched."""
    cut = any(mark in body for mark in _LENGTH_MARKS)
    return WholeAnswer(usage_of(_object(body)), Reason.LENGTH if cut else Reason.STOP)


def usage_of(document: dict[str, Any]) -> Usage | None:
    """The usage in a completion, chat completion, usage event or response; None if it has none."""
    usage = document.get("usage")
    if not isinstance(usage, dict):
        return None
    counts = cast("dict[str, Any]", usage)
    given = counts.get("prompt_tokens", counts.get("input_tokens"))
    made = counts.get("completion_tokens", counts.get("output_tokens"))
    if not isinstance(given, int) or not isinstance(made, int):
        return None
    return Usage(given, made)


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:  # not JSON: passed on all the same, it only tells us nothing
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
