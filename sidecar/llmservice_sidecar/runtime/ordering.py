"""Which order is served now: what is configured, if the mode allows it and the guard agrees."""

from __future__ import annotations

from collections.abc import Callable

from llmservice_api.sidecar_config import LiveConfig, PredictorMode

from llmservice_sidecar.core.errors import InvalidRequest
from llmservice_sidecar.core.guard import ArrivalOrder
from llmservice_sidecar.core.policies import make_deployed_policy, make_policy
from llmservice_sidecar.core.policy import OrderingPolicy
from llmservice_sidecar.core.request import RequestId
from llmservice_sidecar.core.trust import Sample, Trust
from llmservice_sidecar.runtime.async_gate import AsyncGate
from llmservice_sidecar.runtime.call import PRIORITY_HINT
from llmservice_sidecar.runtime.limits import Limits

ARRIVAL_ORDER = "FCFS"


class Ordering:
    """Keeps the gate's policy at what the configuration and the guard say together."""

    def __init__(
        self,
        gate: AsyncGate,
        *,
        trust: Trust,
        limits: Limits,
        live: LiveConfig,
        clock: Callable[[], float],
    ) -> None:
        self._gate = gate
        self._limits = limits
        self._trust = trust
        self._clock = clock
        self._live = live
        self._samples = self._in_arrival_order(live)
        self.apply(live)

    @property
    def trust(self) -> Trust:
        """The judge of the predictor."""
        return self._trust

    @property
    def configured(self) -> str:
        """The policy that the configuration names."""
        return self._live.policy

    @property
    def served(self) -> str:
        """The policy that orders the queue now."""
        return self._gate.state.policy.name

    @property
    def tail_weight(self) -> float:
        """Theta: how strongly waiting counts against size."""
        return self._live.tail_weight

    @property
    def limits(self) -> Limits:
        """How many may be in flight, and why."""
        return self._limits

    @property
    def queue_timeout_s(self) -> float:
        """After how long in the queue a request is evicted."""
        return self._live.queue_timeout_s

    @property
    def mode(self) -> str:
        """The predictor's mode."""
        return self._live.predictor_mode.value

    @property
    def learning(self) -> bool:
        """Predictions are made: in Shadow and in Enforce."""
        return self._live.predictor_mode is not PredictorMode.DISABLED

    def priority_of(self, name: str | None) -> int:
        """The priority that a client gets: the highest there is, or the lower one it names.

        Raises InvalidRequest for a name that is no level.
        """
        levels = {level.name: level.value for level in self._live.priority_levels}
        if name is None:
            return max(levels.values(), default=0)
        if name not in levels:
            allowed = ", ".join(levels) or "none, this service has no priority levels"
            raise InvalidRequest(
                f"{PRIORITY_HINT} is {name[:64]!r}; allowed: {allowed}", param=PRIORITY_HINT
            )
        return levels[name]

    def apply(self, live: LiveConfig) -> None:
        """Take over a new configuration. Raises ValueError naming a policy that is not known."""
        policy = self._policy(live)
        if live.queue_timeout_s != self._live.queue_timeout_s:
            self._samples = self._in_arrival_order(live)
        self._live = live
        self._gate.set_bounds(
            max_queued=live.max_queued_requests, max_queued_tokens=live.max_queued_tokens
        )
        self._gate.set_classes(
            caps={
                level.value: level.max_concurrency
                for level in live.priority_levels
                if level.max_concurrency is not None
            },
            promote_after_s=live.promote_after_s,
        )
        self._limits.apply(live)
        self._gate.set_policy(policy)

    def arrived(self, request_id: RequestId) -> None:
        """A request was taken: it will be a sample, in its place of arrival."""
        self._samples.arrived(request_id, now=self._clock())

    def ended(self, request_id: RequestId, sample: Sample | None) -> None:
        """It ended. None: without a predictor's word or a complete answer it is no sample."""
        now = self._clock()
        if sample is None:
            self._samples.left(request_id, now=now)
        else:
            self._samples.finished(request_id, sample, now=now)
        policy = self._policy(self._live)
        if policy.name != self.served:
            self._gate.set_policy(policy)

    def _in_arrival_order(self, live: LiveConfig) -> ArrivalOrder[Sample]:
        return ArrivalOrder(self._trust.observe, max_age_s=live.queue_timeout_s)

    def _policy(self, live: LiveConfig) -> OrderingPolicy:
        configured = make_deployed_policy(
            live.policy, tail_weight=live.tail_weight, parameters=live.policy_parameters
        )
        trusted = live.predictor_mode is PredictorMode.ENFORCE and self._trust.guard.closed
        return configured if trusted else make_policy(ARRIVAL_ORDER)
