"""What the gate says: the answer to an offer, and where a request stands. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from llmservice_sidecar.core.errors import Reason
from llmservice_sidecar.core.request import RequestId


class Standing(NamedTuple):
    """Where a request stands: now while it waits; once it runs, as it was at its admission.

    `overtaking_bound_s`: of its tenant and priority, only requests that arrive within so many
    seconds after it can be admitted before it, as long as gamma falls no further and it is no wider
    than the limit; None where the policy promises nothing.
    """

    key: tuple[float, ...]
    position: int  # how many stood before it
    depth: int  # how many waited, itself included if it did
    gamma_per_s: float  # under which the key was made
    overtaking_bound_s: float | None = None
    overtook: int = 0  # earlier arrivals still queued when it was admitted
    overtaken_by: int = 0  # later arrivals admitted while it waited
    overtaken_by_ids: tuple[RequestId, ...] = ()  # the first 8 of them, in arrival order


@dataclass(frozen=True, slots=True)
class Admitted:
    """The request runs at once."""


@dataclass(frozen=True, slots=True)
class Queued:
    """The request waits; its id is returned by the call that admits it. `Gate.standing` says where.

    `displaced`: for a full queue, the request of a tenant with more waiting that had to go.
    """

    displaced: RequestId | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The request is not taken; the gate has forgotten it.

    `estimate_s`: for a deadline out of reach, the seconds from now that it would have taken.
    """

    reason: Reason
    estimate_s: float | None = None


QUEUED: Final = Queued()  # nobody had to go

Decision: TypeAlias = Admitted | Queued | Rejected
