"""What predictors have learned outlives their pods: copied into a ConfigMap that new pods mount.

The ConfigMap has the service's owner reference and none of its labels: nothing watches or lists
it, for it is large and changes often.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp
from llmservice_api import names
from llmservice_api.spec import Switch

from llmservice_operator.apply import is_owned
from llmservice_operator.cluster import Cluster, Refused, ServiceKey, ref_of
from llmservice_operator.desired.metadata import MANAGED_BY, metadata
from llmservice_operator.kube_json import Manifest, section
from llmservice_operator.observed import Observed
from llmservice_operator.service import Service
from llmservice_operator.settings import OperatorSettings

_log = logging.getLogger(__name__)

LARGEST_BYTES: Final = 750_000  # as base64 in a request of less than 1 MiB
LEAST_LEARNED: Final = 50  # outcomes: fewer must not replace what others have learned
SUCCESSOR: Final = 2000  # outcomes: a pod that inherits counts what it inherits as no more
MORE_BY: Final = 1.05  # learned since the last copy, as a ratio: less is not worth a copy

FetchSnapshot = Callable[[str], Awaitable[bytes]]  # pod IP to the body of /predictor/snapshot


@dataclass(frozen=True, slots=True)
class _Copy:
    taken_at: float
    learned: int


class SnapshotKeeper:
    """Copies the snapshot of the replica that has learned most, now and then.

    `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        cluster: Cluster,
        fetch: FetchSnapshot,
        *,
        settings: OperatorSettings,
        clock: Callable[[], float],
    ) -> None:
        self._cluster = cluster
        self._fetch = fetch
        self._settings = settings
        self._clock = clock
        self._copies: dict[ServiceKey, _Copy] = {}

    async def keep(self, service: Service, observed: Observed) -> None:
        """Copy if it is time and something was learned. What goes wrong is logged and waits.

        Raises ClusterError when the API server cannot be asked.
        """
        if service.spec.predictor.online_learning is Switch.DISABLED:
            return  # its pods tell nothing, and would take up nothing
        key = ServiceKey(service.namespace, service.name)
        best = _most_learned(observed)
        if best is None or not self._due(key, best.learned):
            return
        self._copies[key] = _Copy(self._clock(), best.learned)
        try:
            payload = await self._fetch(best.address)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            text = str(error) or type(error).__name__
            _log.warning("%s: the snapshot of replica %s is not there: %s", key, best.name, text)
            return
        await self._write(service, snapshot_map(service, payload, learned=best.learned))

    def forget(self, key: ServiceKey) -> None:
        """The service is gone."""
        self._copies.pop(key, None)

    def _due(self, key: ServiceKey, learned: int) -> bool:
        last = self._copies.get(key)
        if learned < LEAST_LEARNED:
            return False
        if last is None:
            return True
        if self._clock() - last.taken_at < self._settings.snapshot_every_s:
            return False
        # Less than before, too: pods count from their start, and carry on what they inherited.
        return learned > MORE_BY * last.learned or learned < last.learned

    async def _write(self, service: Service, manifest: Manifest) -> None:
        try:
            live = await self._cluster.get(ref_of(manifest))
            if live is not None and _learned(manifest) < min(_learned(live), SUCCESSOR):
                return  # from pods that could not read it: it is the better start
            if live is None or is_owned(live, service):
                await self._cluster.apply(manifest)
                return
            why = "it exists and belongs to somebody else"
        except Refused as refusal:
            why = refusal.message
        where = f"{service.namespace}/{service.snapshot_map}"
        _log.warning("what predictors have learned is not kept in ConfigMap %s: %s", where, why)


def snapshot_map(service: Service, payload: bytes, *, learned: int) -> Manifest:
    """The ConfigMap that holds a snapshot of so many outcomes."""
    told = {names.ANNOTATION_LEARNED: str(learned)}
    described = metadata(service, service.snapshot_map, annotations=told)
    described["labels"] = {MANAGED_BY: names.FIELD_MANAGER}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": described,
        "binaryData": {names.PREDICTOR_SNAPSHOT_FILE: base64.b64encode(payload).decode()},
    }


def _learned(snapshot: Manifest) -> int:
    """Outcomes in a ConfigMap as `snapshot_map` makes them; of any other: 0."""
    told = section(snapshot["metadata"], "annotations").get(names.ANNOTATION_LEARNED, "")
    return int(told) if told.isdecimal() else 0


@dataclass(frozen=True, slots=True)
class _Replica:
    name: str
    address: str
    learned: int


def _most_learned(observed: Observed) -> _Replica | None:
    replicas = [replica for pod in observed.pods for replica in _replica(pod, observed)]
    return max(replicas, key=lambda replica: (replica.learned, replica.name), default=None)


def _replica(pod: Manifest, observed: Observed) -> Sequence[_Replica]:
    report = observed.report_of(pod)
    address = section(pod, "status").get("podIP")
    if report is None or not address:
        return ()
    return (_Replica(pod["metadata"]["name"], address, report.predictor.learned),)
