"""docs/tracing.md: its ten questions have queries, and these name what there is."""

from __future__ import annotations

import json
import re
from typing import Final

import pytest
from fakes.documented_queries import JaegerQuery, Question, questions
from llmservice_sidecar.runtime import telemetry_names as names

QUESTIONS: Final = questions()
TRACEQL: Final = [query for question in QUESTIONS for query in question.traceql]
JAEGER: Final = [query for question in QUESTIONS for query in question.jaeger]
ATTRIBUTES: Final = {value for key, value in vars(names).items() if key.startswith("ATTR_")}
RESOURCES: Final = {value for key, value in vars(names).items() if key.startswith("RESOURCE_")}

# What there is of TraceQL's grammar in the page; Grafana's documentation has all of it.
INTRINSICS: Final = {"name", "kind", "status", "duration", "trace:id"}
VALUES: Final = {"server", "client", "internal", "error", "true", "false", "nil"}
FUNCTIONS: Final = {"select", "by", "count_over_time", "quantile_over_time", "rate"}
TOKEN: Final = re.compile(
    r'\s*(?:(?P<text>"[^"]*")|(?P<number>\d*\.?\d+(?:ms|s|m|h)?)|(?P<word>[A-Za-z_][\w:.]*)'
    r"|(?P<operator>=~|!=|>=|<=|&&|\|\||[=<>])|(?P<mark>[{}()|,]))"
)
CLOSING: Final = {"}": "{", ")": "("}


def test_there_are_ten_questions_with_queries_for_both_stores() -> None:
    assert len(QUESTIONS) == 10
    assert [question.title.split(".")[0] for question in QUESTIONS] == [
        str(number) for number in range(1, 11)
    ]
    assert all(question.traceql and question.jaeger for question in QUESTIONS)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.title)
def test_every_attribute_of_a_traceql_query_exists(question: Question) -> None:
    for query in question.traceql:
        for scope, attribute in re.findall(r"\b(span|resource|event)\.([\w.]+)", query):
            known = RESOURCES if scope == "resource" else ATTRIBUTES
            assert attribute in known, query


@pytest.mark.parametrize("query", TRACEQL)
def test_every_traceql_query_is_made_of_what_the_language_has(query: str) -> None:
    opened: list[str] = []
    position = 0
    while position < len(query.rstrip()):
        token = TOKEN.match(query, position)
        assert token is not None, query[position:]
        word, mark = token["word"], token["mark"]
        if word is not None and not word.startswith(("span.", "resource.")):
            assert word in INTRINSICS | VALUES | FUNCTIONS, word
        if mark in CLOSING.values():
            opened.append(mark)
        elif mark in CLOSING:
            assert opened.pop() == CLOSING[mark]
        position = token.end()
    assert opened == []
    assert query.startswith("{")


@pytest.mark.parametrize("query", JAEGER, ids=lambda query: query.line)
def test_every_tag_of_a_jaeger_query_exists(query: JaegerQuery) -> None:
    tags = json.loads(query.parameters.get("tags", "{}"))
    assert set(tags) <= ATTRIBUTES | RESOURCES | {"error", "span.kind"}
    assert all(isinstance(value, str) for value in tags.values())  # Jaeger takes nothing else
    operations = {names.SPAN_QUEUE, names.SPAN_ENGINE_OWN, None}
    assert query.parameters.get("operation") in operations
