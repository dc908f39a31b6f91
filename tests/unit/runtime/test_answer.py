"""Answers are metered without being changed, wherever the network cuts them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llmservice_sidecar.core.errors import Reason
from llmservice_sidecar.runtime.answer import StreamMeter, Usage, read_whole

USAGE = {"prompt_tokens": 3, "total_tokens": 8, "completion_tokens": 5}


def event(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


def stream(texts: list[str], *, finish: str = "stop") -> tuple[bytes, bytes]:
    """A stream as the engine sends it, and as a client that asked for no usage gets it."""
    head = b"".join(event({"choices": [{"delta": {"content": text}}]}) for text in texts)
    head += event({"choices": [{"delta": {}, "finish_reason": finish}]})
    usage = event({"choices": [], "usage": USAGE})
    done = b"data: [DONE]\n\n"
    return head + usage + done, head + done


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces = list[bytes]()
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [piece for piece in (*pieces, data) if piece]


def passed(meter: StreamMeter, chunks: list[bytes]) -> bytes:
    return b"".join([*map(meter.feed, chunks), meter.rest()])


# Content that tries to look like the usage event from inside a JSON string.
TEXTS = st.lists(st.one_of(st.text(), st.just('"choices":[]'), st.just("data: [DONE]\n\n")))
SIZES = st.lists(st.integers(1, 60))


@given(texts=TEXTS, sizes=SIZES, keep=st.booleans())
def test_bytes_pass_untouched_however_they_are_cut(
    texts: list[str], sizes: list[int], keep: bool
) -> None:
    whole, without_usage = stream(texts)
    meter = StreamMeter(keep_usage=keep)
    assert passed(meter, cut(whole, sizes)) == (whole if keep else without_usage)
    assert meter.usage == Usage(3, 5)
    assert meter.done
    assert meter.events == len(texts) + 2  # with the finish and [DONE]
    assert meter.reason is Reason.STOP


@given(sizes=SIZES)
def test_a_cut_answer_is_told_by_its_last_event(sizes: list[int]) -> None:
    whole, _ = stream(["a", "b"], finish="length")
    meter = StreamMeter(keep_usage=False)
    passed(meter, cut(whole, sizes))
    assert meter.reason is Reason.LENGTH


def test_a_whole_event_is_passed_on_at_once() -> None:
    first = event({"choices": [{"text": "a"}]})
    assert StreamMeter(keep_usage=False).feed(first) == first


def test_an_event_that_never_ends_is_passed_on_at_the_end() -> None:
    meter = StreamMeter(keep_usage=False)
    assert meter.feed(b"data: {") == b""
    assert meter.rest() == b"data: {"
    assert not meter.done


def test_what_a_response_stream_says_before_it_is_computed_is_no_event() -> None:
    meter = StreamMeter(keep_usage=False)
    begun = b"".join(
        b"event: response.%s\ndata: {}\n\n" % kind for kind in (b"created", b"in_progress")
    )
    assert meter.feed(begun) == begun
    assert meter.events == 0
    delta = b'event: response.output_text.delta\ndata: {"delta":"a"}\n\n'
    assert meter.feed(delta) == delta
    assert meter.events == 1


def test_a_response_stream_tells_its_usage_at_its_end() -> None:
    usage = {"input_tokens": 4, "output_tokens": 9}
    end = {"type": "response.incomplete", "response": {"usage": usage, "x": "y"}}
    text = json.dumps(end | {"why": {"reason": "max_output_tokens"}}, separators=(",", ":"))
    data = b"event: response.incomplete\ndata: " + text.encode() + b"\n\n"
    meter = StreamMeter(keep_usage=False)
    assert meter.feed(data) == data
    assert (meter.usage, meter.done, meter.reason) == (Usage(4, 9), True, Reason.LENGTH)


@pytest.mark.parametrize(
    ("body", "usage", "reason"),
    [
        (b'{"choices":[{"finish_reason":"stop"}],"usage":%s}', Usage(3, 5), Reason.STOP),
        (b'{"choices":[{"finish_reason":"length"}],"usage":%s}', Usage(3, 5), Reason.LENGTH),
        (b'{"usage":null}', None, Reason.STOP),
        (b"[1]", None, Reason.STOP),
        (b"not json", None, Reason.STOP),
    ],
    ids=["stop", "length", "no usage", "a list", "no JSON"],
)
def test_a_whole_answer_tells(body: bytes, usage: Usage | None, reason: Reason) -> None:
    filled = body.replace(b"%s", json.dumps(USAGE).encode())
    assert (read_whole(filled).usage, read_whole(filled).reason) == (usage, reason)
