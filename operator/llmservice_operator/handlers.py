"""What kopf calls. Every event means the same: look at that service."""

from __future__ import annotations

from typing import Any, Final, Protocol

import kopf
from llmservice_api import names

from llmservice_operator.cluster import ClusterError, ServiceKey
from llmservice_operator.kinds import WATCHED
from llmservice_operator.settings import OperatorSettings

_OPTIONAL_GROUPS: Final = frozenset(kind.group for kind in WATCHED if kind.optional)
# Shorter than the idle timeout of common load balancers, so a watch never dies silently.
_WATCH_S: Final = 240


class Runner(Protocol):
    """The running operator, as the handlers need it."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def look_at(self, key: ServiceKey) -> None: ...

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
        except (ClusterError, OSError) as error:
            # No use in trying again: the process has to be started differently.
            raise kopf.PermanentError(str(error)) from error

    @kopf.on.cleanup(registry=registry)
    async def cleanup(**_: Any) -> None:
        await runner.stop()

    @kopf.on.probe(id="waiting", registry=registry)
    async def waiting(**_: Any) -> int:
        return runner.depth

    @kopf.on.event(names.GROUP, names.VERSION, names.PLURAL, registry=registry)
    async def service_changed(namespace: str | None, name: str, **_: Any) -> None:
        runner.look_at(ServiceKey(namespace or "", name))

    async def owned_changed(namespace: str | None, labels: kopf.Labels, **_: Any) -> None:
        runner.look_at(ServiceKey(namespace or "", labels[names.LABEL_NAME]))

    for kind in WATCHED:
        watched = kopf.on.event(
            kind.group,
            kind.version,
            kind.plural,
            labels={names.LABEL_NAME: kopf.PRESENT},
            registry=registry,
        )
        watched(owned_changed)

    namespaced = bool(settings.namespaces)
    if not namespaced:
        # With rights in single namespaces only the regular look sees what has been installed.
        _watch_definitions(registry, runner)
    # They stay alive in the registry; the names are for kopf's log.
    _ = login, startup, cleanup, waiting, service_changed
    return registry


def _watch_definitions(registry: kopf.OperatorRegistry, runner: Runner) -> None:
    @kopf.on.event("apiextensions.k8s.io", "v1", "customresourcedefinitions", registry=registry)
    async def definition_changed(spec: kopf.Spec, **_: Any) -> None:
        if spec.get("group") in _OPTIONAL_GROUPS:
            runner.definitions_changed()

    _ = definition_changed


def configure(settings: kopf.OperatorSettings, *, namespaced: bool) -> None:
    """kopf's own settings."""
    # With rights in single namespaces the scan of the cluster fails and is tried for a minute.
    settings.scanning.disabled = namespaced
    settings.posting.enabled = False
    settings.watching.server_timeout = _WATCH_S
    settings.watching.client_timeout = _WATCH_S + 30
    settings.persistence.finalizer = f"{names.GROUP}/never-used"
    for kind in WATCHED:
        # On the server: the other pods and ConfigMaps of a cluster never reach this process.
        place = (kind.group, kind.version, kind.plural)
        settings.watching.label_selectors[place] = kind.selector
