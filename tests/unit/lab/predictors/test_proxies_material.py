from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from llmservice_lab.predictors.dataset import Sample
from llmservice_lab.predictors.proxies.duplicates import near_duplicate_groups
from llmservice_lab.predictors.proxies.material import read_material, split_by_group
from llmservice_lab.predictors.proxies.traces import read_traces


def lines(tmp_path: Path, *rows: object) -> Path:
    path = tmp_path / "answers.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def sample(prompt: str, *, group: str | None = None) -> Sample:
    return Sample(
        source="s",
        prompt_id=prompt,
        group=group or prompt,
        prompt=prompt,
        prompt_tokens=1,
        model="m",
        output_tokens=5,
        split="test",
    )


def distinct(count: int) -> list[str]:
    """Prompts of one word each that share next to nothing."""
    return [f"{index * 7919:x}" * 6 for index in range(1, count + 1)]


def test_lines_of_prompts_and_lengths_are_enough(tmp_path: Path) -> None:
    path = lines(tmp_path, *({"prompt": p, "lengths": [10, 20]} for p in distinct(300)))
    material = read_material(path)
    assert sum(material.prompts.values()) == 300
    assert len(material.answers["val"]) == 2 * material.prompts["val"]
    assert material.prompts["train"] > material.prompts["val"] > 0
    assert material.licences == ("unknown",)


def test_a_files_own_split_is_kept(tmp_path: Path) -> None:
    rows = [
        {"prompt": prompt, "output_tokens": 9, "split": "val" if i < 30 else "train"}
        for i, prompt in enumerate(distinct(90))
    ]
    assert read_material(lines(tmp_path, *rows)).prompts == {"train": 60, "val": 30, "test": 0}


def test_a_talkative_models_offset_is_told_apart_from_its_prompts(tmp_path: Path) -> None:
    rows = [
        {
            "source": "s",
            "prompt": prompt,
            "model": model,
            "output_tokens": tokens,
            "split": "val" if i < 30 else "train",
        }
        for i, prompt in enumerate(distinct(90))
        for model, tokens in (("terse", 50), ("chatty", 200))
    ]
    material = read_material(lines(tmp_path, *rows))
    assert material.offsets["chatty"] - material.offsets["terse"] == pytest.approx(1.386, abs=1e-3)


def test_rows_without_a_permissive_licence_can_be_left_out(tmp_path: Path) -> None:
    rows = [
        {"prompt": prompt, "output_tokens": 9, "licence": "MIT" if i % 3 else "CC-BY-NC-4.0"}
        for i, prompt in enumerate(distinct(300))
    ]
    material = read_material(lines(tmp_path, *rows), permissive_only=True)
    assert material.licences == ("MIT",)
    assert sum(material.prompts.values()) == 200


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        pytest.param([{"prompt": "a", "output_tokens": 1}], "needed: 40 and 20", id="too few"),
        pytest.param([{"prompt": "a"}], "output_tokens", id="no length"),
        pytest.param([{"prompt": "a", "lengths": [1, -2]}], "lengths", id="a negative length"),
        pytest.param([{"prompt": 3, "lengths": [1]}], "prompt", id="a prompt that is no text"),
        pytest.param([[1]], "not an object", id="a line that is a list"),
        pytest.param([], "is empty", id="an empty file"),
    ],
)
def test_unusable_lines_are_refused(tmp_path: Path, rows: list[object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_material(lines(tmp_path, *rows))


def test_a_line_that_is_no_json_is_refused_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text('{"prompt": "a", "output_tokens": 1}\n{"prompt"\n')
    with pytest.raises(ValueError, match=r"answers.jsonl:2"):
        read_material(path)


def test_prompts_that_differ_in_a_number_or_case_are_near_duplicates() -> None:
    texts = [
        "Translate the following sentence into French: the cat sat on the mat in room 12",
        "How do volcanoes form?",
        "TRANSLATE the following sentence into French:  the cat sat on the mat in room 13",
    ]
    assert near_duplicate_groups(texts) == [0, 1, 0]


def test_near_duplicates_and_named_groups_are_on_one_side() -> None:
    twins = [f"Tell me everything about the history of lighthouses, volume {i}" for i in range(30)]
    named = [sample(prompt, group="same") for prompt in distinct(30)]
    split = split_by_group([*map(sample, twins), *named, sample("x"), sample("y")], seed=1)
    assert len({each.split for each in split[:30]}) == 1
    assert len({each.split for each in split[30:60]}) == 1
    assert len({each.group for each in split}) == 4


def test_new_prompts_leave_old_ones_on_their_side() -> None:
    old = [sample(prompt) for prompt in distinct(50)]
    before = split_by_group(old, seed=1)
    after = split_by_group([*old, *map(sample, ("something new", "something else"))], seed=1)
    assert [each.split for each in after[:50]] == [each.split for each in before]


def span(
    name: str, *, parent: str = "", attributes: dict[str, Any] | None = None
) -> dict[str, Any]:
    kinds = {int: "intValue", str: "stringValue"}
    return {
        "traceId": "t",
        "spanId": name,
        "parentSpanId": parent,
        "attributes": [
            {"key": key, "value": {kinds[type(value)]: value}}
            for key, value in (attributes or {}).items()
        ],
    }


def export(*spans: dict[str, Any]) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}


MESSAGES = json.dumps(
    [
        {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
        {"role": "user", "parts": [{"type": "text", "content": "Hi"}]},
    ]
)


def test_a_span_with_prompt_and_tokens_is_an_answer() -> None:
    attributes = {
        "gen_ai.input.messages": MESSAGES,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.request.model": "m",
    }
    (answer,) = read_traces([export(span("a", attributes=attributes))], where="f")
    assert (answer.prompt, answer.output_tokens, answer.model) == ("Be brief.\nHi", 7, "m")


def test_the_prompt_may_stand_in_the_callers_span_and_counts_once() -> None:
    spans = (
        span("a", attributes={"gen_ai.input.messages": "Hi", "gen_ai.usage.output_tokens": 7}),
        span("b", parent="a", attributes={"gen_ai.usage.output_tokens": 8}),
    )
    (answer,) = read_traces([export(spans[0]), export(spans[1])], where="f")
    assert (answer.prompt, answer.output_tokens) == ("Hi", 8)


def test_messages_may_be_structured_and_reasons_a_list() -> None:
    part = {"kvlistValue": {"values": [{"key": "content", "value": {"stringValue": "Hi"}}]}}
    whole = span("a", attributes={"gen_ai.usage.output_tokens": 7})
    whole["attributes"] += [
        {"key": "gen_ai.input.messages", "value": {"arrayValue": {"values": [part]}}},
        {
            "key": "gen_ai.response.finish_reasons",
            "value": {"arrayValue": {"values": [{"stringValue": "stop"}]}},
        },
    ]
    (answer,) = read_traces([export(whole)], where="f")
    assert answer.prompt == "Hi"


def test_an_answer_whose_caller_is_not_in_the_file_has_no_prompt() -> None:
    spans = (
        span("a", attributes={"gen_ai.input.messages": '"Hi"', "gen_ai.usage.output_tokens": 7}),
        span("b", parent="gone", attributes={"gen_ai.usage.output_tokens": 8}),
    )
    (answer,) = read_traces([export(*spans)], where="f")
    assert (answer.prompt, answer.output_tokens) == ("Hi", 7)


def test_an_answer_cut_by_its_limit_is_left_out() -> None:
    whole = {"gen_ai.input.messages": "Hi", "gen_ai.usage.output_tokens": 7}
    cut = {**whole, "gen_ai.response.finish_reasons": "length"}
    spans = (span("a", attributes=whole), span("b", attributes=cut))
    assert len(read_traces([export(*spans)], where="f")) == 1


@pytest.mark.parametrize(
    "value",
    [
        {}, None, {"intValue": 0}, {"intValue": "-5"}, {"intValue": "many"}, {"intValue": True},
        {"doubleValue": 7.5}, {"stringValue": "7"}, {"intValue": None},
    ],
)  # fmt: skip
def test_a_length_that_is_no_number_of_tokens_is_skipped_and_counted(
    value: dict[str, Any] | None, caplog: pytest.LogCaptureFixture
) -> None:
    whole = {"gen_ai.input.messages": "Hi", "gen_ai.usage.output_tokens": 7}
    broken = span("b", attributes={"gen_ai.input.messages": "Hi"})
    broken["attributes"].append({"key": "gen_ai.usage.output_tokens", "value": value})
    (answer,) = read_traces([export(span("a", attributes=whole), broken)], where="f")
    assert answer.output_tokens == 7
    assert "f: 1 answers skipped" in caplog.text


def test_traces_without_prompts_are_refused_with_the_reason(tmp_path: Path) -> None:
    bare = export(span("a", attributes={"gen_ai.usage.output_tokens": 8}))
    with pytest.raises(ValueError, match=r"1 answers .* content capture"):
        read_material(lines(tmp_path, bare))
