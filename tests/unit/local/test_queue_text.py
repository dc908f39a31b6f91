"""What `llmservice queue` prints, in both widths, character by character."""

from __future__ import annotations

import msgspec
import pytest
from fakes.queue_views import BUSY, waiting
from llmservice_api.queue_view import AheadCounts, GuardView
from llmservice_local.queue_reasons import why
from llmservice_local.queue_sources import Replica
from llmservice_local.queue_text import printable, queue_lines, seconds

NARROW = """\
12:00:00  chat: 2 in flight, 4 waiting

POD                   SLOTS  WAIT  BACKLOG  ORDER  LIMIT, GUARD
chat-6c9f7d5b4-2xk8q    2/2     4      41s  SSJF   limit: slots; trusted, tau
                                                   0.52

In flight (2)
ID          TENANT   RUNS  TOKENS  OF P50/P90  ENDS IN
req-8f3a22  search  1m15s     911     210/480  2.2s
req-8f3a21  search   4.0s      84     210/480  2.2s

Waiting (4)
#  ID              TENANT      WAITED  P50/P90  STARTS  WHY NOT NOW
1  4dd1f1d2-6f3e…  search        2.5s   ~40/90    2.2s  slots: 2 of 2 in use
2  req-2           search        3.5s   ~40/90    3.2s  behind 1 shorter
3  req-3           batch?[31m    4.5s   ~40/90       -  behind 1 higher
                                                        priority, 1 fair share
4  req-4           search        5.5s   ~40/90    5.2s  wants 4 slots, the limit
                                                        is 2; behind 3 earlier"""

WIDE = """\
12:00:00  chat: 4 in flight, 6 waiting; 1 of 3 did not answer

POD                   SLOTS  WAIT  BACKLOG  ORDER  LIMIT, GUARD
chat-6c9f7d5b4-2xk8q    2/2     4      41s  SSJF   limit: slots; trusted, tau 0.52
chat-6c9f7d5b4-7hjwz    2/2     2      41s  FCFS   DRAINING; limit: KV cache; NOT TRUSTED: \
arrival order, tau 0.02
chat-6c9f7d5b4-zz9pl      -     -        -  -      NO ANSWER: connection refused

In flight (first 3 of 4)
POD    ID          TENANT   RUNS  TOKENS  OF P50/P90  ENDS IN  PREDICTED BY  PROMPT  SLOTS  PRIO  \
WAITED  REMARK
2xk8q  req-8f3a22  search  1m15s     911     210/480     2.2s  model            120      1     0  \
  1.5s
7hjwz  req-8f3a22  search  1m15s     911     210/480     2.2s  model            120      1     0  \
  1.5s
2xk8q  req-8f3a21  search   4.0s      84     210/480     2.2s  model            120      1     0  \
  1.5s

Waiting (first 3 of 6)
#  POD    ID                                    TENANT  WAITED  P50/P90  STARTS  PREDICTED BY  \
PRIO    KEY  OVERTAKEN  OVERTAKABLE  DEADLINE  WHY NOT NOW
1  2xk8q  4dd1f1d2-6f3e-4c55-9a3b-000000000001  search    2.5s   ~40/90    2.2s  prior         \
   0  12.35         0x         3.2s         -  slots: 2 of 2 in use
1  7hjwz  w9                                    search    2.5s   ~40/90    2.2s  prior         \
   0  12.35         0x         3.2s         -  KV cache: no room beside what runs
2  2xk8q  req-2                                 search    3.5s   ~40/90    3.2s  prior         \
   0  12.35         1x      no more         -  behind 1 shorter"""

ONE = Replica(name="chat-6c9f7d5b4-2xk8q", view=BUSY)
UNTRUSTED = msgspec.structs.replace(
    BUSY,
    draining=True,
    guard=GuardView(mode="Enforce", trusted=False, samples=210, tau=0.02),
    queue=msgspec.structs.replace(
        BUSY.queue, order="FCFS", limit_reason="kv_cache", queued_requests=2
    ),
    waiting=[waiting(0, "w9", held_by="kv_cache"), waiting(1, "w10")],
)
THREE = [
    ONE,
    Replica(name="chat-6c9f7d5b4-7hjwz", view=UNTRUSTED),
    Replica(name="chat-6c9f7d5b4-zz9pl", error="connection refused"),
]


def test_eighty_columns_wrap_the_reason_and_cut_the_id() -> None:
    lines = queue_lines("12:00:00  chat", [ONE], width=80, rows=20)
    assert "\n".join(lines) == NARROW
    assert max(map(len, lines)) <= 80


def test_two_hundred_columns_tell_key_overtaking_and_pods() -> None:
    lines = queue_lines("12:00:00  chat", THREE, width=200, rows=3)
    assert "\n".join(lines) == WIDE


@pytest.mark.parametrize("width", [40, 79, 130, 131, 500])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(map(len, queue_lines("chat", THREE, width=width, rows=20))) <= width


def test_nothing_to_show_is_the_pods_alone() -> None:
    idle = msgspec.structs.replace(BUSY, in_flight=[], waiting=[], in_flight_requests=0)
    idle = msgspec.structs.replace(
        idle, queue=msgspec.structs.replace(idle.queue, queued_requests=0)
    )
    lines = queue_lines("chat", [Replica(name="a", view=idle)], width=80, rows=20)
    assert lines[0] == "chat: 0 in flight, 0 waiting"
    assert not [line for line in lines if line.startswith(("In flight", "Waiting"))]


def test_a_backlog_that_nobody_knows_is_a_dash() -> None:
    report = msgspec.structs.replace(BUSY.queue, backlog_s=0.0)
    unknown = msgspec.structs.replace(BUSY, queue=report)
    lines = queue_lines("chat", [Replica(name="a", view=unknown)], width=80, rows=20)
    assert lines[3].split()[:4] == ["a", "2/2", "4", "-"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (-0.2, "0.0s"), (9.94, "9.9s"), (9.96, "10s"), (59.6, "1m00s"), (3725, "1h02m")],
)
def test_durations_are_short(value: float | None, text: str) -> None:
    assert seconds(value) == text


def test_what_a_terminal_would_act_on_is_not_printed() -> None:
    assert printable("a\x1b]0;b\x07\u202ec\nd") == "a?]0;b??c?d"


@pytest.mark.parametrize(
    ("held_by", "slots", "text"),
    [
        ("slots", 4, "slots: 2 of 2 in use, wants 4"),
        ("max_concurrency", 1, "maxConcurrency: 2 of 2 in use"),
        ("time_per_output_token", 1, "time per output token: 2 of 2 in use"),
        ("priority_cap", 1, "priority 0 has all its slots"),
        ("a later reason", 1, "a later reason"),
    ],
)
def test_each_reason_has_words(held_by: str, slots: int, text: str) -> None:
    row = waiting(0, "r", held_by=held_by, slots=slots, ahead=AheadCounts())
    assert why(row, BUSY.queue) == text


def test_other_orders_do_not_claim_that_the_others_are_shorter() -> None:
    row = waiting(1, "r", ahead=AheadCounts(smaller_key=1, promoted=2, unheld=3))
    report = msgspec.structs.replace(BUSY.queue, order="HRRN")
    assert why(row, report) == "behind 1 by HRRN's key, 2 promoted, 3 lower priority"
