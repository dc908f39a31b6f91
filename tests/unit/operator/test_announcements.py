"""Events about a service."""

from __future__ import annotations

from fakes.manifests import NOW, resource
from llmservice_operator.announcements import announcements
from llmservice_operator.conditions import Condition, Finding, Truth, Verdict, merge
from llmservice_operator.kube_json import Manifest


def conditions(
    ready: Truth, reason: str = "R", *, stalled: Truth = Truth.FALSE
) -> tuple[Condition, ...]:
    verdicts = (
        Verdict("Ready", ready, Finding(reason, "why")),
        Verdict("PredictorCalibrated", Truth.UNKNOWN, Finding("TooFewSamples", "")),
        Verdict("Stalled", stalled, Finding("S", "")),
    )
    return merge((), verdicts, generation=1, now=NOW)


def told(before: tuple[Condition, ...], after: tuple[Condition, ...]) -> list[Manifest]:
    return announcements(resource(), before=before, after=after, now=NOW)


def test_the_first_judgement_is_told_and_an_unknown_one_is_not() -> None:
    (event,) = told((), conditions(Truth.FALSE, "EngineLoading"))
    assert event["message"] == "Ready is False: why"
    assert (event["type"], event["reason"]) == ("Normal", "EngineLoading")
    assert event["involvedObject"]["uid"] == "uid-svc"


def test_nothing_new_is_not_told() -> None:
    same = conditions(Truth.TRUE)
    assert told(same, same) == []


def test_another_reason_is_news() -> None:
    assert len(told(conditions(Truth.FALSE, "A"), conditions(Truth.FALSE, "B"))) == 1


def test_what_waits_for_a_person_is_a_warning() -> None:
    before = conditions(Truth.TRUE)
    (event,) = told(before, conditions(Truth.FALSE, stalled=Truth.TRUE))
    assert event["type"] == "Warning"
