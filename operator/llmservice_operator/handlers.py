"""What kopf calls. Every event means the same: look at that service."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from typing import Any, Final, Protocol

import kopf
from llmservice_api import names

from llmservice_operator.cluster import ClusterError, ObjectRef, ServiceKey, ref_of
from llmservice_operator.kinds import WATCHED
from llmservice_operator.kube_json import Manifest
from llmservice_operator.settings import OperatorSettings
from llmservice_operator.tracing import TracingError

_OPTIONAL_GROUPS: Final = frozenset(kind.group for kind in WATCHED if kind.optional)
# Shorter than the idle timeout of common load balancers, so a watch never dies silently.
_WATCH_S: Final = 240
_CHUNK: Final = 250  # objects in one answer of the first listing


class Runner(Protocol):
    """The running operator, as the handlers need it."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def look_at(self, key: ServiceKey) -> None: ...

    def told(self, manifest: Manifest) -> None: ...

    def told_of(self, key: ServiceKey, ref: ObjectRef, *, gone: bool) -> None: ...

    @property
    def blind_s(self) -> float: ...

    def definitions_changed(self) -> None: ...

    @property
    def depth(self) -> int: ...


def registry_for(runner: Runner, settings: OperatorSettings) -> kopf.OperatorRegistry:
    """The handlers, bound to one running operator.

    Only `on.event`: kopf keeps no state in annotations and puts no finalizer on anything.
    """
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        # A developer's kubeconfig may need plugins, which only the official client runs.
        return kopf.login_with_service_account(**kwargs) or kopf.login_via_client(**kwargs)

    @kopf.on.startup(registry=registry)
    async def startup(settings: kopf.OperatorSettings, **_: Any) -> None:
        configure(settings, namespaced=namespaced)
        try:
            await runner.start()
        except (ClusterError, OSError, TracingError) as error:
            # No use in trying again: the process has to be started differently.
            raise kopf.PermanentError(str(error)) from error

    @kopf.on.cleanup(registry=registry)
    async def cleanup(**_: Any) -> None:
        await runner.stop()

    _add_probes(registry, runner, blind_after_s=settings.blind_after_s)

    _watch_services(registry, runner)
    namespaced = bool(settings.namespaces)
    if not namespaced:
        # With rights in single namespaces only the regular look sees what has been installed.
        _watch_definitions(registry, runner)
    # They stay alive in the registry; the names are for kopf's log.
    _ = login, startup, cleanup
    return registry


def _watch_services(registry: kopf.OperatorRegistry, runner: Runner) -> None:
    @kopf.on.event(names.GROUP, names.VERSION, names.PLURAL, registry=registry)
    async def service_changed(
        namespace: str | None, name: str, body: kopf.Body, resource: kopf.Resource, **_: Any
    ) -> None:
        runner.told(_identified(body, resource))
        runner.look_at(ServiceKey(namespace or "", name))

    async def owned_changed(
        namespace: str | None,
        labels: kopf.Labels,
        event: kopf.RawEvent,
        body: kopf.Body,
        resource: kopf.Resource,
        **_: Any,
    ) -> None:
        key = ServiceKey(namespace or "", labels[names.LABEL_NAME])
        identified = _identified(body, resource)
        runner.told(identified)
        runner.told_of(key, ref_of(identified), gone=event["type"] == "DELETED")
        runner.look_at(key)

    for kind in WATCHED:
        watched = kopf.on.event(
            kind.group,
            kind.version,
            kind.plural,
            labels={names.LABEL_NAME: kopf.PRESENT},
            registry=registry,
        )
        watched(owned_changed)

    _ = service_changed


def _add_probes(registry: kopf.OperatorRegistry, runner: Runner, *, blind_after_s: float) -> None:
    @kopf.on.probe(id="waiting", registry=registry)
    async def waiting(**_: Any) -> int:
        return runner.depth

    @kopf.on.probe(id="blindSeconds", registry=registry)
    async def blind(**_: Any) -> float:
        if runner.blind_s > blind_after_s:
            # The probe then answers 500, and the kubelet starts the operator anew.
            raise kopf.PermanentError(f"an event is missing for {runner.blind_s:.0f} s")
        return runner.blind_s

    _ = waiting, blind


def _watch_definitions(registry: kopf.OperatorRegistry, runner: Runner) -> None:
    @kopf.on.event("apiextensions.k8s.io", "v1", "customresourcedefinitions", registry=registry)
    async def definition_changed(spec: kopf.Spec, **_: Any) -> None:
        if spec.get("group") in _OPTIONAL_GROUPS:
            runner.definitions_changed()

    _ = definition_changed


def _identified(body: kopf.Body, resource: kopf.Resource) -> Manifest:
    """Kind and metadata of what an event is about; a list's items do not say their kind."""
    api_version = "/".join(filter(None, (resource.group, resource.version)))
    return {
        "apiVersion": api_version,
        "kind": resource.kind,
        "metadata": {
            "namespace": body.metadata.namespace,
            "name": body.metadata.name,
            "resourceVersion": body["metadata"]["resourceVersion"],
        },
    }


class _ForEver(Iterable[float]):
    """Pauses between attempts to reach the API server: longer and longer, without end.

    kopf's own end after a minute, and the operator with them: an outage of the API server would
    add an operator in CrashLoopBackOff, which is away for minutes more.
    """

    def __iter__(self) -> Iterator[float]:
        return chain((0.5, 1.0, 2.0, 4.0, 8.0), repeat(10.0))


def configure(settings: kopf.OperatorSettings, *, namespaced: bool) -> None:
    """kopf's own settings."""
    # With rights in single namespaces the scan of the cluster fails and is tried for a minute.
    settings.scanning.disabled = namespaced
    settings.posting.enabled = False
    settings.networking.error_backoffs = _ForEver()
    settings.watching.chunk_size = _CHUNK
    settings.watching.server_timeout = _WATCH_S
    settings.watching.client_timeout = _WATCH_S + 30
    settings.persistence.finalizer = f"{names.GROUP}/never-used"
    for kind in WATCHED:
        # On the server: the other pods and ConfigMaps of a cluster never reach this process.
        place = (kind.group, kind.version, kind.plural)
        settings.watching.label_selectors[place] = kind.selector
