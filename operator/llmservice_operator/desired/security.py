"""Security contexts that Pod Security's `restricted` level admits."""

from __future__ import annotations

from typing import Final

from llmservice_operator.kube_json import Manifest

_USER: Final = 65532  # the images' own; an image made for root runs as it too


def pod_security(*, writes_claim: bool = False) -> Manifest:
    """The pod's: no root, the runtime's seccomp profile; a claim's volume for the group, too."""
    group: Manifest = {"fsGroup": _USER, "fsGroupChangePolicy": "OnRootMismatch"}
    return {
        **(group if writes_claim else {}),
        "runAsNonRoot": True,
        "runAsUser": _USER,
        "runAsGroup": _USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Manifest:
    """A container's: no capability, no way to more rights, a read-only root."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
