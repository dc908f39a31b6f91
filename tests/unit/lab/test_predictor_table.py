"""docs/predictors.md and its CSV: who stands in it, what is kept, what is written."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from fakes.lengths import answers, write_lengths
from llmservice_lab.benchmarks.statistics import Estimate
from llmservice_lab.predictors import contestants as who
from llmservice_lab.predictors.asking import ask
from llmservice_lab.predictors.baselines import BASELINES, fit_baseline
from llmservice_lab.predictors.contestants import Contestant, contestants_of
from llmservice_lab.predictors.document import (
    BEGIN,
    END,
    Line,
    Page,
    ShareLine,
    generated,
    put_between_marks,
)
from llmservice_lab.predictors.measuring import Answers, Measured, combined, measure
from llmservice_lab.predictors.memory import resident_mib
from llmservice_lab.predictors.share import Work, mean_times, mixed_work
from llmservice_lab.predictors.share_table import works_of
from llmservice_lab.predictors.store import Store, digest_of
from llmservice_lab.predictors.table import COLUMNS, as_csv, judged, read_answers, write
from llmservice_lab.sim_plan import make_sim_predictor
from llmservice_lab.sim_predictors import Constant, inverted, oracle
from llmservice_lab.sim_predictors_trained import Told
from llmservice_lab.workload import WorkloadRequest
from llmservice_sidecar.adapters.predictors.learned.online import OnlinePredictor
from llmservice_sidecar.adapters.predictors.shipped import base
from llmservice_sidecar.core.request import Prediction
from llmservice_sidecar.runtime.ports import PredictionQuery

ROOT = Path(__file__).parents[3]
ARTEFACT = Path(base.__file__).with_name(base.ARTEFACT)


class Counting:
    """Says the length of the prompt in characters, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def predict_batch(self, queries: Sequence[PredictionQuery]) -> list[Prediction | None]:
        self.asked += len(queries)
        return [Prediction(float(len(each.text)), 1e3, "counting") for each in queries]


class Silent:
    def predict_batch(self, queries: Sequence[PredictionQuery]) -> list[Prediction | None]:
        return [None] * len(queries)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    path = write_lengths(tmp_path_factory.mktemp("table") / "lengths.jsonl", answers())
    return read_answers(path)


def line(table: Answers, contestant: Contestant = who.BASELINES[1]) -> Line:
    fitted = fit_baseline("prompt-length", table.train, table.val)
    val, test = (
        ask(fitted, part, by_model=False, on_step=lambda _done, _all: None)
        for part in (table.val, table.test)
    )
    return judged(contestant, table, Measured(val, test, 80.0))


def test_a_table_without_a_split_is_refused_by_its_name(tmp_path: Path) -> None:
    rows = [row for row in answers(20) if row["split"] != "val"]
    with pytest.raises(ValueError, match="no rows of split val"):
        read_answers(write_lengths(tmp_path / "lengths.jsonl", rows))


def test_lines_are_baselines_then_the_folders_then_the_default(tmp_path: Path) -> None:
    (tmp_path / "listmle").mkdir()
    (tmp_path / "listmle" / "model.onnx").touch()
    (tmp_path / "notes").mkdir()
    (tmp_path / "default-all.safetensors").touch()
    found = contestants_of(tmp_path)
    names = [each.name for each in found]
    assert names == [
        *(each.name for each in who.BASELINES),
        *("default-all", "listmle", "blend with default-all"),
        "blend with default-all and listmle",
        *(each.name for each in who.DEFAULT),
    ]
    assert [each.name for each in found if who.is_proxy(each)] == ["listmle"]
    assert "LTR" in found[names.index("listmle")].about
    assert [each.name for each in contestants_of(None)] == [
        each.name for each in (*who.BASELINES, *who.DEFAULT)
    ]
    with pytest.raises(ValueError, match="not a folder"):
        contestants_of(tmp_path / "absent")


def test_baselines_in_the_table_are_those_of_eval() -> None:
    assert BASELINES
    assert {each.spec or each.name for each in who.BASELINES} == set(BASELINES)


def test_every_prompt_is_asked_once(table: Answers) -> None:
    counting = Counting()
    said = ask(counting, table.test, by_model=False, on_step=lambda _done, _all: None)
    assert counting.asked == len({sample.prompt for sample in table.test})
    assert said.mean.tolist() == [float(len(sample.prompt)) for sample in table.test]
    assert not np.isnan(said.seconds).any()
    ask(counting, table.test, by_model=True, on_step=lambda _done, _all: None)
    assert counting.asked == 3 * len({sample.prompt for sample in table.test})


def test_no_opinion_counts_as_the_prior(table: Answers) -> None:
    said = ask(Silent(), table.test, by_model=False, on_step=lambda _done, _all: None)
    assert set(said.mean.tolist()) == {512.0}


def test_what_was_measured_is_not_measured_again(table: Answers, tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = measure("constant", table, store)
    assert first.resident_mib is not None
    assert first.resident_mib > 10
    (kept,) = tmp_path.glob("*.json")
    document = json.loads(kept.read_text())
    kept.write_text(json.dumps(document | {"resident_mib": 1.0}))
    again = measure("constant", table, store)
    assert again.test.mean.tolist() == first.test.mean.tolist()
    assert again.resident_mib == 1.0
    assert measure("prompt-length", table, store).resident_mib != 1.0


def test_a_blend_is_the_mean_of_logarithms_and_takes_the_time_of_all(
    table: Answers, tmp_path: Path
) -> None:
    constant, length = (
        measure(spec, table, Store(tmp_path)) for spec in ("constant", "prompt-length")
    )
    both = combined([constant, length])
    assert both.test.mean == pytest.approx(np.sqrt(constant.test.mean * length.test.mean))
    assert both.val.p90 == pytest.approx(np.sqrt(constant.val.p90 * length.val.p90))
    assert both.test.seconds == pytest.approx(constant.test.seconds + length.test.seconds)
    assert both.resident_mib is None


def test_the_default_predictor_is_measured_in_service_too(table: Answers, tmp_path: Path) -> None:
    measured = measure("default", table, Store(tmp_path), online=True)
    assert len(measured.test.mean) == len(table.test)
    assert not np.isnan(measured.test.p50).any()


def test_a_digest_follows_content_and_names(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("one")
    before = digest_of(path), digest_of(tmp_path)
    path.write_text("two")
    assert digest_of(path) != before[0]
    assert digest_of(tmp_path) != before[1]
    path.write_text("one")
    assert (digest_of(path), digest_of(tmp_path)) == before
    path.rename(tmp_path / "b")
    assert digest_of(tmp_path) != before[1]


def test_memory_is_that_of_another_process() -> None:
    assert 10 < resident_mib(OnlinePredictor) < 2000


def test_the_csv_has_a_row_for_every_source_and_model(table: Answers) -> None:
    rows = list(csv.reader(io.StringIO(as_csv([line(table)]))))
    assert tuple(rows[0]) == COLUMNS
    assert [row[:3] for row in rows[1:]] == [
        ["prompt length", source, model]
        for source in ("quiz", "tales")
        for model in ("large", "small")
    ]


def test_only_lines_that_say_so_get_the_level_of_a_model(table: Answers) -> None:
    fitted = {row["model"]: row["mae_tokens"] for row in line(table).rows}
    told = {row["model"]: row["mae_tokens"] for row in line(table, who.DEFAULT[1]).rows}
    assert fitted != told
    taus = [[row["tau_b"] for row in each.rows] for each in (line(table), line(table))]
    assert taus[0] == taus[1]


def test_the_page_has_every_line_source_and_workload(table: Answers) -> None:
    shares = [
        ShareLine(
            work="demo", about="a mix", requests=477, shares={"default": Estimate(0.7, 0.6, 0.8)}
        )
    ]
    page = Page(commit="abc", hardware="a machine", lines=[line(table)], shares=shares)
    text = "\n".join(generated(page))
    for words in ("prompt length", "quiz", "tales", "abc", "70 [60, 80]", "| demo | 477 | a mix |"):
        assert words in text


def test_the_best_line_of_a_source_is_named(table: Answers) -> None:
    ours = Contestant(name=who.ALL_ROWS, spec="x", about="")
    lines = [line(table, ours), line(table, who.BASELINES[1])]
    page = Page(commit="", hardware="", lines=lines, shares=[])
    text = "\n".join(generated(page))
    assert f"| quiz | {who.ALL_ROWS} | " in text
    assert "| 1.00 | - | " in text


def test_shares_of_nothing_show_as_a_dash(table: Answers) -> None:
    nothing = Estimate(math.nan, math.nan, math.nan)
    shares = [ShareLine(work="w", about="", requests=1, shares={"default": nothing})]
    page = Page(commit="", hardware="", lines=[line(table)], shares=shares)
    assert "| default | - |" in "\n".join(generated(page))


def test_marks_are_needed_and_kept() -> None:
    text = put_between_marks(f"head\n{BEGIN}\nold\n{END}\ntail\n", "new\n")
    assert text == f"head\n{BEGIN}\n\nnew\n\n{END}\ntail\n"
    with pytest.raises(ValueError, match="lacks the marks"):
        put_between_marks("nothing", "new")
    assert BEGIN in (ROOT / "docs" / "predictors.md").read_text()


def test_a_mixed_service_has_each_prompt_once_and_one_model_a_source(table: Answers) -> None:
    work = mixed_work(table.test, name="all", sources=["quiz", "tales"])
    prompts = [row.prompt for row in work.rows]
    assert len(prompts) == len(set(prompts)) == len({each.prompt for each in table.test})
    assert {row.model for row in work.rows} == {None}
    assert "quiz, tales" in work.about


def test_the_truth_saves_time_and_its_opposite_does_not(table: Answers) -> None:
    work = mixed_work(table.test, name="all", sources=["quiz", "tales"])
    work = Work(name="x", about="", rows=[*work.rows] * 3)
    fcfs = mean_times(work, lambda _rows: Constant(), policy="FCFS")
    best, worst = mean_times(work, oracle), mean_times(work, inverted)
    assert sum(best) < sum(fcfs)
    assert sum(best) < sum(worst)


def test_a_proxy_is_asked_once_a_prompt_in_a_simulation() -> None:
    counting = Counting()
    told = Told(counting)
    row = WorkloadRequest(arrival_s=0.0, prompt="abc", prompt_tokens=1, output_tokens=9)
    assert told.starts_trusted
    assert [told.predict(index, row).output_tokens for index in range(3)] == [3.0] * 3
    told.observe(0, row)
    assert counting.asked == 1


def test_a_simulation_takes_a_trained_base_by_its_path() -> None:
    row = WorkloadRequest(arrival_s=0.0, prompt="Tell a story.", prompt_tokens=3, output_tokens=9)
    predictor = make_sim_predictor(str(ARTEFACT), [row], seed=1)
    assert predictor.starts_trusted
    assert predictor.predict(0, row).output_tokens >= 1


def test_document_and_csv_are_written_and_a_second_time_from_what_was_kept(
    table: Answers, tmp_path: Path
) -> None:
    contestants = [who.BASELINES[0], *who.DEFAULT]
    work = mixed_work(table.test, name="unseen", sources=["quiz", "tales"])
    store, out = Store(tmp_path / "kept"), tmp_path / "predictors.md"
    write(out, contestants, answers=table, works=[work], store=store)
    text = out.read_text()
    assert "| predictor | unseen |" in text
    for each in contestants:
        assert f"| {each.name} |" in text
    assert "| the same model again |" not in text  # this table has one answer a model and prompt
    assert "| mean of the other models |" in text
    kept = sorted(path.name for path in (tmp_path / "kept").iterdir())
    write(out, contestants, answers=table, works=[work], store=store)
    assert out.read_text() == text
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == kept
    assert out.with_suffix(".csv").read_text().startswith("predictor,source,model,n,")


def test_the_shipped_workloads_with_prompts_are_in_the_table(table: Answers) -> None:
    works = {work.name: len(work.rows) for work in works_of(table)}
    assert works == {
        "demo-test": 477,
        "chat": 799,
        "exam-chat": 2854,
        "unseen, all sources": 24,
    }
