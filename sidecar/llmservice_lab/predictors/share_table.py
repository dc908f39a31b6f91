"""The workloads and predictors of the table "share of the oracle's gain", kept between runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from llmservice_lab import sim_online
from llmservice_lab.benchmarks.statistics import Estimate, share
from llmservice_lab.benchmarks.store import source_digest
from llmservice_lab.predictors.contestants import Contestant, is_proxy
from llmservice_lab.predictors.document import ShareLine
from llmservice_lab.predictors.loading import load
from llmservice_lab.predictors.measuring import Answers, depends_on
from llmservice_lab.predictors.share import Make, Work, mean_times, mixed_work
from llmservice_lab.predictors.store import Store, digest_of
from llmservice_lab.sim_predictors import Constant, oracle
from llmservice_lab.sim_predictors_trained import Told
from llmservice_lab.workload import load_workload

WORKLOADS: Final = Path("examples/workloads")
CHAT: Final = ("alpaca_eval", "arena_hard_v0.1", "flask", "oasst_1k_multisample")


def works_of(answers: Answers) -> list[Work]:
    """Workload files that have prompts, and services made of the test answers."""
    sources = sorted({sample.source for sample in answers.test})
    chat = [source for source in CHAT if source in sources]
    return [
        _file("demo-test", "exam, arena and volunteers' prompts; none was trained on"),
        _file("chat", "volunteers' and arena prompts; most of them were trained on"),
        _file("exam-chat", "without the texts of exam questions and users' tasks: size alone"),
        *([mixed_work(answers.test, name="unseen chat", sources=chat)] if chat else []),
        mixed_work(answers.test, name="unseen, all sources", sources=sources),
    ]


def share_lines(
    works: Sequence[Work],
    contestants: Sequence[Contestant],
    store: Store,
    *,
    on_done: Callable[[str], None],
) -> list[ShareLine]:
    """A line for each workload, with the default predictor and every trained one."""
    runners = [each for each in contestants if _runs(each)]
    lines: list[ShareLine] = []
    for work in works:
        times = _Times(work, store)
        fcfs = times.of("FCFS", lambda: lambda _rows: Constant(), policy="FCFS")
        best = times.of("oracle", lambda: oracle)
        found: dict[str, Estimate] = {}
        for contestant in runners:
            key = (contestant.spec, contestant.online, *depends_on(contestant.spec))
            mine = times.of(key, lambda contestant=contestant: _maker(contestant))
            found[contestant.name] = share(mine, fcfs, best)
            on_done(f"simulated {work.name} with {contestant.name}")
        lines.append(
            ShareLine(work=work.name, about=work.about, requests=len(work.rows), shares=found)
        )
    return lines


class _Times:
    """Mean end-to-end seconds of a workload's runs, kept by what they depend on."""

    def __init__(self, work: Work, store: Store) -> None:
        self._work = work
        self._store = store
        rows = [(row.prompt, row.prompt_tokens, row.output_tokens) for row in work.rows]
        code = digest_of(Path(__file__).with_name("share.py"))
        self._key = ("share", rows, source_digest(), code)

    def of(self, who: object, maker: Callable[[], Make], *, policy: str = "SSJF") -> list[float]:
        """One figure a seed; `maker` is called when they are not kept."""
        kept = self._store.get(*self._key, who)
        if kept is None:
            kept = mean_times(self._work, maker(), policy=policy)
            self._store.put(*self._key, who, value=kept)
        return kept


def _runs(contestant: Contestant) -> bool:
    """Predictors that are deployed; the level of a model does not matter to an order."""
    trained = is_proxy(contestant) or contestant.spec.endswith(".safetensors")
    default = contestant.spec == "default" and (contestant.online or contestant.levelled)
    return trained or default


def _file(name: str, about: str) -> Work:
    path = next(path for path in sorted(WORKLOADS.iterdir()) if path.stem == name)
    return Work(name=name, about=about, rows=load_workload(path))


def _maker(contestant: Contestant) -> Make:
    if contestant.online:
        return lambda _rows: sim_online.online(None)
    told = Told(load(contestant.spec).make())
    return lambda _rows: told
