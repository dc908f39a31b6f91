"""`Cluster` in memory: objects, versions and refusals, without merging of managers' fields."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from llmservice_api import names
from llmservice_operator.capabilities import NOTHING_OPTIONAL
from llmservice_operator.cluster import ObjectRef, Refused, ServiceKey, ref_of
from llmservice_operator.inventory import Inventory
from llmservice_operator.kube_json import Manifest, section


class FakeCluster:
    """Remembers what was applied and deleted; `refusals` are raised once applied to that kind."""

    def __init__(self, *objects: Manifest) -> None:
        self.objects: dict[ObjectRef, Manifest] = {}
        self.applied: list[tuple[ObjectRef, str, str]] = []  # ref, subresource, manager
        self.deleted: list[ObjectRef] = []
        self.refusals: dict[str, Refused] = {}
        self.capabilities = NOTHING_OPTIONAL
        self.inventory = Inventory()  # as watches would fill it
        self._version = 0
        for manifest in objects:
            self.put(manifest)

    def put(self, manifest: Manifest) -> Manifest:
        """Make or change an object as somebody else would."""
        self._version += 1
        ref = ref_of(manifest)
        live = copy.deepcopy(manifest)
        live["metadata"].setdefault("uid", f"uid-{ref.kind}-{ref.name}")
        live["metadata"]["resourceVersion"] = str(self._version)
        self.objects[ref] = live
        if owner := section(live, "metadata", "labels").get(names.LABEL_NAME):
            self.inventory.told(ServiceKey(ref.namespace, owner), ref)
        return copy.deepcopy(live)

    def remove(self, ref: ObjectRef) -> None:
        """Take an object away as somebody else would."""
        live = self.objects.pop(ref)
        if owner := section(live, "metadata", "labels").get(names.LABEL_NAME):
            self.inventory.told(ServiceKey(ref.namespace, owner), ref, gone=True)

    async def get(self, ref: ObjectRef) -> Manifest | None:
        """The live object."""
        return copy.deepcopy(self.objects.get(ref))

    async def pods_of(self, key: ServiceKey) -> Sequence[Manifest]:
        """The namespace's pods with the service's label."""
        return [
            copy.deepcopy(live)
            for ref, live in self.objects.items()
            if (ref.kind, ref.namespace) == ("Pod", key.namespace)
            and section(live, "metadata", "labels").get(names.LABEL_NAME) == key.name
        ]

    async def apply(
        self,
        manifest: Manifest,
        *,
        subresource: str = "",
        manager: str = names.FIELD_MANAGER,
    ) -> Manifest:
        """Replace what the manifest says; keep the version when nothing changed."""
        ref = ref_of(manifest)
        if refusal := self.refusals.get(subresource or ref.kind):
            raise refusal
        self.applied.append((ref, subresource, manager))
        before = self.objects.get(ref, {})
        after = copy.deepcopy(before)
        for field, value in manifest.items():
            kept = section(after, field) if field in {"metadata", "spec"} else {}
            after[field] = {**kept, **value} if kept else copy.deepcopy(value)
        if before and after == before:
            return copy.deepcopy(before)
        return self.put(after)

    async def delete(self, ref: ObjectRef, *, uid: str) -> None:
        """Remove the object of that uid."""
        live = self.objects.get(ref)
        if live is not None and live["metadata"]["uid"] == uid:
            self.remove(ref)
            self.deleted.append(ref)
