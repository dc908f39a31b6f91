"""Conditions as values: a new list is merged over the old one. Knows neither pods nor specs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from llmservice_operator.kube_json import Manifest

TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
_MESSAGE_LIMIT = 1024  # characters; a longer cause is in the pod's own events


class Truth(StrEnum):
    """A condition's status, spelt as Kubernetes does."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Finding(NamedTuple):
    """Why something is as it is: a stable CamelCase word and a sentence for people."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """One condition as judged now, without a time."""

    type: str
    status: Truth
    finding: Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition as it is written; `since` moves only when `status` moves."""

    type: str
    status: Truth
    reason: str
    message: str
    observed_generation: int
    since: datetime


def merge(
    before: Sequence[Condition], verdicts: Iterable[Verdict], *, generation: int, now: datetime
) -> tuple[Condition, ...]:
    """The conditions after judging; times are kept where the status is unchanged."""
    known = {condition.type: condition for condition in before}
    return tuple(
        Condition(
            type=verdict.type,
            status=verdict.status,
            reason=verdict.finding.reason,
            message=verdict.finding.message[:_MESSAGE_LIMIT],
            observed_generation=generation,
            since=_since(known.get(verdict.type), verdict, now=now),
        )
        for verdict in verdicts
    )


def encode_conditions(conditions: Iterable[Condition]) -> list[Manifest]:
    """As `status.conditions` has them."""
    return [
        {
            "type": condition.type,
            "status": condition.status.value,
            "reason": condition.reason,
            "message": condition.message,
            "observedGeneration": condition.observed_generation,
            "lastTransitionTime": condition.since.strftime(TIME_FORMAT),
        }
        for condition in conditions
    ]


def parse_conditions(raw: Iterable[Mapping[str, Any]]) -> tuple[Condition, ...]:
    """What the API server returns for `status.conditions`."""
    return tuple(
        Condition(
            type=entry["type"],
            status=Truth(entry["status"]),
            reason=entry["reason"],
            message=entry["message"],
            observed_generation=entry.get("observedGeneration", 0),
            since=datetime.fromisoformat(entry["lastTransitionTime"]).astimezone(UTC),
        )
        for entry in raw
    )


def _since(before: Condition | None, verdict: Verdict, *, now: datetime) -> datetime:
    if before is not None and before.status is verdict.status:
        return before.since
    # The API has whole seconds; a fraction here would look like a change after a round trip.
    return now.astimezone(UTC).replace(microsecond=0)
