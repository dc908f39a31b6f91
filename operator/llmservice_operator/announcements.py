"""Kubernetes Events about changed conditions: what `kubectl describe` shows. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from llmservice_api import names

from llmservice_operator.conditions import TIME_FORMAT, Condition, Truth
from llmservice_operator.kube_json import Manifest

# The others either move with Ready or are too lively to be told each time.
_TOLD: Final = ("Ready", "PredictorCalibrated")
_MESSAGE_LIMIT: Final = 1024


def announcements(
    about: Manifest, *, before: Sequence[Condition], after: Sequence[Condition], now: datetime
) -> list[Manifest]:
    """One Event for every told condition of the service `about` that changed status or reason.

    Not to know something yet is no news.
    """
    known = {condition.type: condition for condition in before}
    stalled = any(
        condition.type == "Stalled" and condition.status is Truth.TRUE for condition in after
    )
    return [
        _event(about["metadata"], condition, now=now, warn=stalled)
        for condition in after
        if condition.type in _TOLD and _is_news(known.get(condition.type), condition)
    ]


def _is_news(before: Condition | None, after: Condition) -> bool:
    if before is None or before.status is Truth.UNKNOWN:
        return after.status is not Truth.UNKNOWN
    return (before.status, before.reason) != (after.status, after.reason)


def _event(about: dict[str, Any], condition: Condition, *, now: datetime, warn: bool) -> Manifest:
    stamp = now.strftime(TIME_FORMAT)
    # Deterministic: the same news told twice within a second is one Event.
    unique = f"{about['uid']}/{condition.type}/{condition.status}/{condition.reason}/{stamp}"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{about['name']}.{hashlib.sha256(unique.encode()).hexdigest()[:16]}",
            "namespace": about["namespace"],
        },
        "involvedObject": {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "name": about["name"],
            "namespace": about["namespace"],
            "uid": about["uid"],
        },
        "type": "Warning" if warn and condition.status is Truth.FALSE else "Normal",
        "reason": condition.reason,
        "message": f"{condition.type} is {condition.status}: {condition.message}"[:_MESSAGE_LIMIT],
        "source": {"component": names.FIELD_MANAGER},
        "reportingComponent": names.FIELD_MANAGER,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
