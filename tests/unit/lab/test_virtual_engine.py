"""The discrete-event engine, against the same engine stepped one step at a time."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from llmservice_lab.cost_model import CostModel
from llmservice_lab.sim_engine import Starting
from llmservice_lab.virtual_engine import VirtualEngine

COSTS = CostModel(step_s=1.0, per_decode_s=0.5, per_prefill_token_s=0.1)


def run(engine: VirtualEngine) -> list[tuple[float, list[int], list[int]]]:
    news: list[tuple[float, list[int], list[int]]] = []
    while engine.next_event_s() is not None:
        progress = engine.advance()
        news.append((progress.now, progress.first_tokens, progress.finished))
    return news


def starting(index: int, *, prefill: int = 10, output: int = 3) -> Starting:
    return Starting(index=index, prompt_tokens=prefill, output_tokens=output)


def test_one_request_prefills_once_and_decodes_the_rest() -> None:
    engine = VirtualEngine(COSTS, slots=100)
    engine.start(starting(0), now=5.0)
    assert run(engine) == [(7.0, [0], []), (10.0, [], [0])]  # 1 + 1; then 2 x 1.5


def test_a_single_token_finishes_with_its_prefill() -> None:
    engine = VirtualEngine(COSTS, slots=100)
    engine.start(starting(0, output=1), now=0.0)
    assert run(engine) == [(2.0, [0], [0])]


def test_who_comes_amid_a_step_joins_the_next() -> None:
    engine = VirtualEngine(COSTS, slots=100)
    engine.start(starting(0, output=5), now=0.0)
    engine.next_event_s()
    engine.advance()  # at 2.0; decode steps of 1.5 follow
    engine.next_event_s()
    engine.start(starting(1), now=4.0)
    # Step until 5.0; prefill beside one decode, 1 + 0.5 + 1, until 7.5; two decode until 9.5.
    assert run(engine) == [(5.0, [], []), (7.5, [1], []), (9.5, [], [0]), (11.0, [], [1])]


def test_who_comes_amid_a_prefill_waits_for_its_end() -> None:
    engine = VirtualEngine(COSTS, slots=100)
    engine.start(starting(0, output=2), now=0.0)
    engine.next_event_s()
    engine.start(starting(1, output=2), now=1.0)
    assert run(engine) == [(2.0, [0], []), (4.5, [1], [0]), (6.0, [], [1])]


def test_an_idle_engine_starts_at_once_whatever_was_before() -> None:
    engine = VirtualEngine(COSTS, slots=100)
    engine.start(starting(0, output=1), now=0.0)
    run(engine)
    engine.start(starting(1, output=1), now=50.0)
    assert run(engine) == [(52.0, [1], [1])]


@dataclass
class _Row:
    join_s: float
    prefill: int
    output: int
    emitted: int = 0


def stepped(rows: list[_Row]) -> dict[int, float]:
    """When each finishes, one step after the other, everybody admitted on arrival."""
    now, finished, pending = 0.0, dict[int, float](), dict(enumerate(rows))
    while pending:
        ready = {i: row for i, row in pending.items() if row.join_s <= now}
        if not ready:
            now = min(row.join_s for row in pending.values())
            continue
        fresh = [row for row in ready.values() if not row.emitted]
        now += (
            COSTS.step_s
            + COSTS.per_decode_s * (len(ready) - len(fresh))
            + COSTS.per_prefill_token_s * sum(row.prefill for row in fresh)
        )
        for index, row in ready.items():
            row.emitted += 1
            if row.emitted == row.output:
                finished[index] = now
                del pending[index]
    return finished


@pytest.mark.parametrize("seed", range(8))
def test_skipping_steps_changes_nothing(seed: int) -> None:
    rng = random.Random(seed)
    joins = sorted(rng.uniform(0, 80) for _ in range(25))
    rows = [_Row(at, rng.randint(0, 30), rng.randint(1, 20)) for at in joins]
    engine, finished, index = VirtualEngine(COSTS, slots=100), dict[int, float](), 0
    while True:
        ends_s = engine.next_event_s()
        if index < len(rows) and (ends_s is None or rows[index].join_s <= ends_s):
            row = rows[index]
            request = starting(index, prefill=row.prefill, output=row.output)
            engine.start(request, now=row.join_s)
            index += 1
        elif ends_s is not None:
            progress = engine.advance()
            finished.update(dict.fromkeys(progress.finished, progress.now))
        else:
            break
    assert finished == pytest.approx(stepped(rows))
