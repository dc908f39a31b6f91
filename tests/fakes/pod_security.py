"""Pod Security's `restricted` level as a pure function over pod specs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

Json = dict[str, Any]

_VOLUMES: Final = frozenset(
    ("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim",
     "projected", "secret")
)  # fmt: skip
_SECCOMP: Final = ("RuntimeDefault", "Localhost")
_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")


def violations(pod: Json) -> list[str]:
    """What of a pod's spec the level refuses, as sentences; empty when it is admitted."""
    found = [f"{key} is true" for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)]
    found += [
        f"volume {volume['name']} is of kind {kind}"
        for volume in pod.get("volumes", [])
        for kind in volume
        if kind not in _VOLUMES | {"name"}
    ]
    shared = pod.get("securityContext", {})
    if shared.get("sysctls"):
        found.append("sysctls are set")
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        found += [f"{container['name']}: {text}" for text in _of_container(container, shared)]
    return found


def _of_container(container: Json, shared: Json) -> Iterator[str]:
    own = {**shared, **container.get("securityContext", {})}
    capabilities = own.get("capabilities", {})
    if own.get("runAsUser") == 0:
        yield "runAsUser is 0"
    if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "adds capabilities"
    demanded = {
        "privileged": not own.get("privileged"),
        "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
        "capabilities.drop": "ALL" in capabilities.get("drop", []),
        "procMount": own.get("procMount", "Default") == "Default",
        "runAsNonRoot": own.get("runAsNonRoot") is True,
        "seccompProfile": own.get("seccompProfile", {}).get("type") in _SECCOMP,
    }
    yield from (f"{key} is not as it must be" for key, right in demanded.items() if not right)
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "hostPort is set"
    handlers = [
        handler
        for probe in _PROBES
        for kind, handler in container.get(probe, {}).items()
        if kind in ("httpGet", "tcpSocket")
    ]
    if any(handler.get("host") for handler in handlers):
        yield "a probe names a host"
