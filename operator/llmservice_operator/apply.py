"""Bringing owned objects to what is desired: apply, prune, and never touch what is not ours."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Container, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
from llmservice_api import names

from llmservice_operator.cluster import Cluster, ObjectRef, Refused, ServiceKey, ref_of
from llmservice_operator.conditions import Finding
from llmservice_operator.kinds import DEPLOYMENT, LEADER_WORKER_SET
from llmservice_operator.kube_json import Manifest, entries, section
from llmservice_operator.service import Service

_Result = TypeVar("_Result")
_SCALABLE: Final = frozenset({DEPLOYMENT.kind, LEADER_WORKER_SET.kind})
_SCALING_MANAGER = f"{names.FIELD_MANAGER}-scaling"


class Applier:
    """Applies manifests and remembers what the API server made of them.

    An object that is as our last identical apply left it, but for its status, is left alone.
    Its version would not do: every pod that becomes ready changes the version of its Deployment.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._seen: dict[ServiceKey, dict[ObjectRef, tuple[str, str]]] = {}

    async def apply_all(
        self, service: Service, manifests: Sequence[Manifest], live: Mapping[ObjectRef, Manifest]
    ) -> tuple[dict[ObjectRef, Manifest], Finding | None]:
        """The live objects afterwards, and what stopped the work, if anything did.

        `live` has whatever is there of their names, somebody else's too.
        What the pods use comes before the workload and what looks at it after; the objects of
        each stage are applied side by side. Raises ClusterError, when none is under way any more.
        """
        made: dict[ObjectRef, Manifest] = {}
        for stage in _stages(manifests):
            attempts = (self._attempt(service, one, live.get(ref_of(one))) for one in stage)
            results = await _ended(attempts)
            made |= {ref_of(one): one for one in results if not isinstance(one, Finding)}
            problem = next((one for one in results if isinstance(one, Finding)), None)
            if problem is not None:
                return made, problem
        return made, None

    async def prune(
        self,
        manifests: Sequence[Manifest],
        owned: Mapping[ObjectRef, Manifest],
        *,
        kinds: Container[str] | None = None,
    ) -> None:
        """Delete owned objects, of some kinds or of all, that are no longer desired."""
        wanted = {ref_of(manifest) for manifest in manifests}
        for ref, manifest in owned.items():
            if ref not in wanted and (kinds is None or ref.kind in kinds):
                await self._cluster.delete(ref, uid=manifest["metadata"]["uid"])

    def forget(self, key: ServiceKey) -> None:
        """A service is gone: nothing about its objects is worth remembering."""
        self._seen.pop(key, None)

    async def _attempt(
        self, service: Service, manifest: Manifest, live: Manifest | None
    ) -> Manifest | Finding:
        try:
            return await self._apply(service, manifest, live)
        except Refused as refusal:
            return _finding(refusal, ref_of(manifest))

    async def _apply(self, service: Service, manifest: Manifest, live: Manifest | None) -> Manifest:
        ref = ref_of(manifest)
        seen = self._seen.setdefault(ServiceKey(service.namespace, service.name), {})
        wanted = _digest(manifest)
        if live is not None and seen.get(ref) == (wanted, _digest(_settled_part(live, manifest))):
            return live
        if live is not None:
            _check_owner(live, ref, service)
            await self._hand_over_replicas(service, manifest, live)
        after = await self._cluster.apply(manifest)
        seen[ref] = (wanted, _digest(_settled_part(after, manifest)))
        return after

    async def _hand_over_replicas(
        self, service: Service, manifest: Manifest, live: Manifest
    ) -> None:
        """Keep the number of replicas when it stops being ours.

        A field that its only owner no longer applies is reset to its default: a service that
        moves from `replicas` to `scaling` would fall to one replica.
        """
        if manifest["kind"] not in _SCALABLE or "replicas" in manifest["spec"]:
            return
        if not _owns_replicas(live):
            return
        scaling = service.spec.scaling
        least = max(1, scaling.min_replicas) if scaling else 1
        held = {
            "apiVersion": manifest["apiVersion"],
            "kind": manifest["kind"],
            "metadata": {key: manifest["metadata"][key] for key in ("name", "namespace")},
            "spec": {"replicas": live["spec"].get("replicas") or least},
        }
        await self._cluster.apply(held, manager=_SCALING_MANAGER)


def is_owned(manifest: Manifest, service: Service) -> bool:
    """Whether the object belongs to this service or to a former one of its name.

    Garbage collection is about to take the former one's objects; applying ours over them is safe.
    """
    return any(
        owner.get("kind") == names.KIND
        and owner.get("name") == service.name
        and str(owner.get("apiVersion", "")).startswith(f"{names.GROUP}/")
        for owner in entries(manifest, "metadata", "ownerReferences")
    )


async def _ended(work: Iterable[Coroutine[Any, Any, _Result]]) -> list[_Result]:
    """What came of each; the first error only when nothing is under way any more."""
    done: list[_Result] = []
    for result in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
        done.append(result)
    return done


def _stages(manifests: Sequence[Manifest]) -> Iterator[Sequence[Manifest]]:
    """Runs of what may be applied in any order."""
    for _, stage in itertools.groupby(manifests, key=lambda one: one["kind"] in _SCALABLE):
        yield tuple(stage)


def _check_owner(live: Manifest, ref: ObjectRef, service: Service) -> None:
    """An object of that name is ours if it says so, else not to be touched."""
    if not is_owned(live, service):
        raise Refused(
            "NameConflict",
            f"{ref.kind} {ref.name} exists and belongs to somebody else; "
            "delete it or give the LLMService another name",
        )


def _digest(part: Mapping[str, Any]) -> str:
    return hashlib.sha256(msgspec.json.encode(part, order="sorted")).hexdigest()


def _settled_part(live: Manifest, manifest: Manifest) -> dict[str, Any]:
    """What of a live object does not change while nobody changes what was applied.

    Controllers write annotations of their own (a Deployment's revision): only ours count.
    """
    metadata = live["metadata"]
    annotations = section(metadata, "annotations")
    ours = section(manifest, "metadata", "annotations")
    return {
        **{key: value for key, value in live.items() if key not in {"status", "metadata"}},
        "uid": metadata["uid"],
        "labels": section(metadata, "labels"),
        "annotations": {key: annotations.get(key) for key in ours},
        "ownerReferences": entries(metadata, "ownerReferences"),
    }


def _owns_replicas(live: Manifest) -> bool:
    return any(
        entry.get("manager") == names.FIELD_MANAGER
        and "f:replicas" in section(entry, "fieldsV1", "f:spec")
        for entry in entries(live, "metadata", "managedFields")
    )


def _finding(refusal: Refused, ref: ObjectRef) -> Finding:
    if refusal.reason == "NameConflict":
        return Finding("NameConflict", refusal.message)
    text = f"{ref.kind} {ref.name}: {refusal.message}"
    reason = "QuotaExceeded" if "exceeded quota" in refusal.message else "ApplyRefused"
    return Finding(reason, text)
