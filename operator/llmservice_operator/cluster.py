"""The seam to the API server: what `reconcile` needs of it, and the two ways it can fail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from llmservice_api import names

from llmservice_operator.capabilities import Capabilities
from llmservice_operator.kinds import Kind
from llmservice_operator.kube_json import Manifest


class ObjectRef(NamedTuple):
    """One object of the API."""

    api_version: str
    kind: str
    namespace: str
    name: str


class ServiceKey(NamedTuple):
    """One LLMService."""

    namespace: str
    name: str

    @property
    def ref(self) -> ObjectRef:
        """The LLMService itself."""
        return ObjectRef(names.API_VERSION, names.KIND, self.namespace, self.name)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class ClusterError(Exception):
    """The API server could not be asked; trying again may help."""


class Refused(ClusterError):
    """The API server said no (4xx); `reason` is its own word, the message its sentence."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Cluster(Protocol):
    """Raises Refused when the API server says no, ClusterError when it cannot be asked."""

    @property
    def capabilities(self) -> Capabilities:
        """The optional kinds that were served when it was last asked."""
        ...

    async def get(self, ref: ObjectRef) -> Manifest | None:
        """The live object, None when there is none."""
        ...

    async def pods_of(self, key: ServiceKey) -> Sequence[Manifest]:
        """The pods with the service's label."""
        ...

    async def apply(
        self,
        manifest: Manifest,
        *,
        subresource: str = "",
        manager: str = names.FIELD_MANAGER,
    ) -> Manifest:
        """Server-side apply as `manager`; returns the live object."""
        ...

    async def delete(self, ref: ObjectRef, *, uid: str) -> None:
        """Delete that very object in the background; absent is success."""
        ...


def ref_to(kind: Kind, namespace: str, name: str) -> ObjectRef:
    """The object of that kind and name."""
    return ObjectRef(kind.api_version, kind.kind, namespace, name)


def ref_of(manifest: Manifest) -> ObjectRef:
    """Which object a manifest is."""
    metadata = manifest["metadata"]
    return ObjectRef(
        manifest["apiVersion"], manifest["kind"], metadata["namespace"], metadata["name"]
    )
