"""The operator is granted exactly what it uses, watching one namespace as much as all of them.

What was used comes from the API server's audit log; nothing here speaks to it as the operator. No
pod of these services ever runs: they ask for a node that there is not.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from e2e.audit import deeds, granted
from e2e.chart import RELEASE, Release
from e2e.kube import Cluster, Kube
from e2e.service import LiveService
from llmservice_api import names
from llmservice_operator.kinds import OWNED, SCALED_OBJECT, Kind

CRDS: Final = Path(__file__).parents[1] / "fixtures" / "crds"
SERVICE: Final = "wide"
_NOWHERE: Final = {"spec": {"nodeSelector": {"example.com/no-such-node": "true"}}}
# Everything that makes an object of its own; scaling is added and taken away by itself.
_WIDE: Final[dict[str, Any]] = {
    "model": {"uri": "pvc://models/tiny"},
    "engine": {"device": "CPU"},
    "template": _NOWHERE,
    "scaling": {"minReplicas": 1, "maxReplicas": 2},
    "monitoring": {"podMonitor": "Enabled"},
    "router": {
        "parentRefs": [{"name": "gateway"}],
        "hostnames": ["wide.example.com"],
        "grpcHostnames": ["grpc.wide.example.com"],
        "inferencePool": {"endpointPickerRef": {"name": "picker"}},
    },
}
_NARROW: Final[dict[str, Any]] = {**_WIDE, "scaling": None, "monitoring": None, "router": None}
# Replicas over several nodes, and a claim that is made for what is downloaded.
_SEVERAL: Final[dict[str, Any]] = {
    "model": {"uri": "hf://example/none", "cache": {"size": "1Mi"}},
    "parallelism": {"nodes": 2, "tensor": 2},
    "template": _NOWHERE,
}
_MODES: Final = {"of one namespace": True, "of the whole cluster": False}


@pytest.fixture(scope="module")
def optional_kinds(kube: Kube) -> Generator[list[str]]:
    """The definitions that others bring, as far as the cluster has none; all but KEDA's."""
    made: list[str] = []
    for path in sorted(CRDS.glob("*.yaml")):
        for crd in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            name: str = crd["metadata"]["name"]
            if not kube.run("get", "crd", name, "--ignore-not-found").strip():
                made.append(name)
                if name != f"{SCALED_OBJECT.plural}.{SCALED_OBJECT.group}":
                    kube.apply(json.dumps(crd))
    yield made
    if made:
        kube.run("delete", "crd", *made, "--ignore-not-found", "--timeout=60s")


@pytest.fixture(scope="module", params=list(_MODES.values()), ids=list(_MODES))
def offset(
    request: pytest.FixtureRequest,
    kube: Kube,
    cluster: Cluster,
    release: Release,
    namespace: str,
    optional_kinds: list[str],
) -> int:
    """The length of the audit log before an operator of this mode started."""
    assert cluster.audit_log is not None
    kube.run("delete", "crd", f"{SCALED_OBJECT.plural}.{SCALED_OBJECT.group}", "--ignore-not-found")
    before = cluster.audit_log.stat().st_size
    release.upgrade(
        {
            "namespaces": [namespace] if request.param else [],
            "networkPolicy": {"enabled": True},
            "activator": {"enabled": True},
        }
    )
    return before


def test_operator_uses_every_right_it_has_and_tries_no_other(
    kube: Kube, cluster: Cluster, release: Release, namespace: str, offset: int
) -> None:
    service = LiveService(kube, namespace, SERVICE)
    service.apply(json.dumps(_manifest(SERVICE, _WIDE)))
    _wait_for(service, "horizontalpodautoscalers", "podmonitors", "httproutes", "grpcroutes",
              "inferencepools", "networkpolicies", "deployments")  # fmt: skip
    pods = release.pods(kube)
    _bring_keda(kube, release)
    pods |= release.pods(kube)
    service.patch({"scaling": {"minReplicas": 0}})
    _wait_for(service, "scaledobjects", f"endpointslices/{SERVICE}-activator")
    _wait_gone(service, "horizontalpodautoscalers")
    _replace(service, _NARROW)
    _wait_gone(
        service, "scaledobjects", "podmonitors", "httproutes", "grpcroutes", "inferencepools"
    )
    several = LiveService(kube, namespace, "several")
    several.apply(json.dumps(_manifest(several.name, _SEVERAL)))
    _wait_for(several, "leaderworkersets", "persistentvolumeclaims")
    _lose_the_lease(kube, release)
    _leave_orphans(service)
    _wait_until_tidy(service)
    for each in (service, several):
        each.kubectl("delete", each.reference)
    assert cluster.audit_log is not None
    used = deeds(cluster.audit_log, release.user, offset=offset, pods=pods)
    rights = granted(release.manifests(), RELEASE)
    assert _told(used.forbidden) == []
    assert _told(rights - used.done) == []
    assert _told(used.done - rights) == []


def _told(rights: frozenset[Any]) -> list[str]:
    return sorted(f"{verb} {resource}.{group}" for group, resource, verb in rights)


def _manifest(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name},
        "spec": {key: value for key, value in spec.items() if value is not None},
    }


def _replace(service: LiveService, spec: dict[str, Any]) -> None:
    service.kubectl("replace", "-f", "-", stdin=json.dumps(_manifest(service.name, spec)).encode())


def _names(service: LiveService, plurals: str) -> list[str]:
    """The objects of the service of these kinds; of `kind/name` that one, if there is one."""
    if "/" in plurals:
        return service.kube.items(plurals, "-n", service.namespace, "--ignore-not-found")
    selector = f"{names.LABEL_NAME}={service.name}"
    return service.kube.items(plurals, "-n", service.namespace, "-l", selector)


def _wait_for(service: LiveService, *plurals: str) -> None:
    for plural in plurals:
        service.kube.wait_until(
            f"{service.reference} has its {plural}",
            lambda plural=plural: _names(service, plural) != [],
            timeout_s=60,
            show=f"describe -n {service.namespace} {service.reference}",
        )


def _wait_gone(service: LiveService, *plurals: str) -> None:
    service.kube.wait_until(
        f"{service.reference} has no {', '.join(plurals)} any more",
        lambda: _names(service, ",".join(plurals)) == [],
        timeout_s=60,
        show=f"describe -n {service.namespace} {service.reference}",
    )


def _bring_keda(kube: Kube, release: Release) -> None:
    kube.run("apply", "-f", str(CRDS / f"{SCALED_OBJECT.plural}.yaml"))
    # Bound to namespaces, it sees no definition come: the next start or its next round does.
    operator = ("deployment", RELEASE, "-n", release.namespace)
    kube.run("rollout", "restart", *operator)
    kube.run("rollout", "status", *operator, "--timeout=120s")


def _lose_the_lease(kube: Kube, release: Release) -> None:
    """The Lease is part of the release; the operator makes it anew when somebody deletes it."""
    lease = (f"lease/{RELEASE}", "-n", release.namespace)
    kube.run("delete", *lease)
    kube.wait_until(
        "the operator has a lease again",
        lambda: kube.items(*lease, "--ignore-not-found") != [],
        timeout_s=60,
    )


def _leave_orphans(service: LiveService) -> None:
    """Objects as an older version might have made them, one of each kind, that nobody wants."""
    owner = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "name": service.name,
        "uid": service.get()["metadata"]["uid"],
    }
    managed = "endpointslice.kubernetes.io/managed-by"
    labels = {names.LABEL_NAME: service.name, managed: names.FIELD_MANAGER}
    metadata = {"name": f"{service.name}-former", "labels": labels, "ownerReferences": [owner]}
    items = [
        {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **_body(kind)}
        for kind in OWNED
        if kind.plural in _BODIES
    ]
    service.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))


_SELECTED: Final = {"matchLabels": {"app": "former"}}
_POD: Final = {
    "metadata": {"labels": {"app": "former"}},
    "spec": {"containers": [{"name": "none", "image": "none"}], **_NOWHERE["spec"]},
}
_CLAIM: Final = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
_BODIES: Final[dict[str, dict[str, Any]]] = {
    "configmaps": {},
    "persistentvolumeclaims": {"spec": _CLAIM},
    "serviceaccounts": {},
    "services": {"spec": {"ports": [{"port": 80}]}},
    "endpointslices": {"addressType": "IPv4", "endpoints": []},
    "networkpolicies": {"spec": {"podSelector": _SELECTED}},
    "poddisruptionbudgets": {"spec": {"selector": _SELECTED}},
    "deployments": {"spec": {"replicas": 0, "selector": _SELECTED, "template": _POD}},
    "leaderworkersets": {
        "spec": {"replicas": 0, "leaderWorkerTemplate": {"size": 2, "workerTemplate": _POD}}
    },
}


def _body(kind: Kind) -> dict[str, Any]:
    return _BODIES[kind.plural]


def _wait_until_tidy(service: LiveService) -> None:
    plurals = ",".join(_BODIES)
    service.kube.wait_until(
        "what nobody wants is gone",
        lambda: [name for name in _names(service, plurals) if name.endswith("-former")] == [],
        timeout_s=90,
        show=f"get {plurals} -n {service.namespace}",
    )
