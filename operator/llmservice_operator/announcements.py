"""Kubernetes Events about changed conditions: what `kubectl describe` shows. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from llmservice_api import names

from llmservice_operator.cluster import ObjectRef
from llmservice_operator.conditions import Condition, Truth
from llmservice_operator.kube_json import Manifest

# The others either move with Ready or are too lively to be told each time.
_TOLD: Final = ("Ready", "PredictorCalibrated")
_BAD: Final = frozenset({Truth.FALSE})
_REASON_LIMIT: Final = 128
_NOTE_LIMIT: Final = 1024


def announcements(
    ref: ObjectRef,
    *,
    before: Sequence[Condition],
    after: Sequence[Condition],
    now: datetime,
) -> list[Manifest]:
    """One Event for every told condition whose status or reason is another than before."""
    known = {condition.type: (condition.status, condition.reason) for condition in before}
    warn = any(
        condition.type == "Stalled" and condition.status is Truth.TRUE for condition in after
    )
    return [
        _event(ref, condition, now=now, warn=warn and condition.status in _BAD)
        for condition in after
        if condition.type in _TOLD
        and known.get(condition.type) != (condition.status, condition.reason)
        and (condition.type in known or condition.status is not Truth.UNKNOWN)
    ]


def _event(ref: ObjectRef, condition: Condition, *, now: datetime, warn: bool) -> Manifest:
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    unique = f"{ref.uid}/{condition.type}/{condition.status}/{condition.reason}/{now.isoformat()}"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{ref.name}.{hashlib.sha256(unique.encode()).hexdigest()[:16]}",
            "namespace": ref.namespace,
        },
        "involvedObject": {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "name": ref.name,
            "namespace": ref.namespace,
            "uid": ref.uid,
        },
        "type": "Warning" if warn else "Normal",
        "reason": condition.reason[:_REASON_LIMIT],
        "message": f"{condition.type} is {condition.status}: {condition.message}"[:_NOTE_LIMIT],
        "source": {"component": names.FIELD_MANAGER},
        "reportingComponent": names.FIELD_MANAGER,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
