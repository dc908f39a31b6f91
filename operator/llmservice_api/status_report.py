"""What a sidecar tells the operator and people: the versioned JSON of `GET :9090/status`."""

from __future__ import annotations

import msgspec

REPORT_VERSION = 1


class EngineReport(msgspec.Struct, frozen=True, kw_only=True):
    """The engine as its sidecar sees it."""

    healthy: bool
    message: str = ""


class QueueReport(msgspec.Struct, frozen=True, kw_only=True):
    """The gate now. `order` is what is really served: FCFS while the guard is open or in Shadow."""

    policy: str
    order: str
    queued_requests: int
    queued_tokens: float
    in_flight_slots: int
    limit_slots: int
    # What sets the limit: slots | max_concurrency | time_per_output_token | kv_cache
    limit_reason: str = "slots"
    look_ahead_slots: int = 0  # of limit_slots: those that keep the engine busy meanwhile
    backlog_s: float
    longest_wait_s: float = 0.0  # of those that wait now; 0: nobody waits
    gamma_per_s: float


class ModelPredictionReport(msgspec.Struct, frozen=True, kw_only=True):
    """How well the answers of one model or adapter have been foreseen.

    `trusted`: its predictions stand in the order, not its running mean. Coverage: the share of
    answers within the predicted quantile.
    """

    samples: int = 0
    trusted: bool = True
    tau: float | None = None
    tau_lower: float | None = None
    tau_upper: float | None = None
    coverage_p50: float | None = None
    coverage_p90: float | None = None


class PredictorReport(msgspec.Struct, frozen=True, kw_only=True):
    """The predictor's state and how well it ranks (Kendall tau-b with its 95 % bounds)."""

    mode: str
    kind: str
    state: str  # Ready | Loading | Failed | Disabled
    message: str = ""
    samples: int = 0
    calibrated: bool | None = None  # None below the configured minimum of samples
    tau: float | None = None
    tau_lower: float | None = None
    tau_upper: float | None = None
    estimated_gain_ratio: float | None = (
        None  # mean wait under SSJF / under FCFS, Shadow and Enforce
    )
    learned: int = 0  # outcomes behind what it knows: own and inherited, not live replicas'
    timeouts: int = 0  # predictions that came after the deadline
    failures: int = 0  # predictions and lessons in which the predictor failed
    # Requests that got the running mean or a guess: late | no_answer | overloaded | no_model
    fallbacks: dict[str, int] = {}
    models: dict[str, ModelPredictionReport] = {}


class SecurityReport(msgspec.Struct, frozen=True, kw_only=True):
    """What guards the doors. Errors name entries and files of a Secret, never what is in them."""

    api_keys: int | None = None  # keys in use; None: none are asked for
    api_keys_error: str = ""  # which entries of the Secret are not in use, and why
    unauthenticated: int = 0  # requests refused for want of a known key
    tls: bool = False
    tls_error: str = ""  # why the mounted pair is not in use (then the one before is), or of no use
    tls_expires_at: float | None = None  # end of the certificate in use, seconds since the epoch


class ModelReport(msgspec.Struct, frozen=True, kw_only=True):
    """How far the delivery of model and adapters is; the download program's file says the same.

    `revision` is the commit that a branch stood for. `total_bytes` is 0 until it is known.
    """

    phase: str  # Downloading | Ready | Failed
    bytes: int = 0
    total_bytes: int = 0
    revision: str = ""
    message: str = ""


class StatusReport(msgspec.Struct, frozen=True, kw_only=True):
    """One sidecar's whole report. Readers refuse a `version` they do not know."""

    version: int = REPORT_VERSION
    generation_applied: int
    static_hash: str
    config_error: str = ""  # why the latest live.json is not applied; the one before it still is
    ready: bool
    draining: bool
    engine: EngineReport
    queue: QueueReport
    predictor: PredictorReport
    security: SecurityReport = SecurityReport()
    model: ModelReport | None = None  # None: nothing is downloaded for this pod


def decode_report(payload: bytes) -> StatusReport:
    """Parse a report. Raises msgspec.DecodeError with the JSON path of what is wrong."""
    report = msgspec.json.decode(payload, type=StatusReport)
    if report.version != REPORT_VERSION:
        raise msgspec.ValidationError(
            f"status report version {report.version} is not supported; supported: {REPORT_VERSION}"
        )
    return report
