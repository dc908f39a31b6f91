"""The end of an installation: what it keeps when it is told to, and that nothing is left or stuck.

Runs last: afterwards the operator is gone.
"""

from __future__ import annotations

from typing import Final

import pytest
from e2e.chart import Release
from e2e.kube import Kube, KubeError
from e2e.service import LiveService, cycle
from llmservice_api import names

CRD: Final = f"customresourcedefinition/{names.PLURAL}.{names.GROUP}"
OWNED: Final = "deployments,services,configmaps,serviceaccounts,poddisruptionbudgets"


@pytest.fixture(scope="module")
def service(kube: Kube, release: Release, namespace: str) -> LiveService:
    service = LiveService(kube, namespace, "last")
    service.apply(cycle("last", suspend=True))
    service.wait_settled(0)
    return service


def exists(kube: Kube, *arguments: str) -> bool:
    return bool(kube.run("get", *arguments, "--ignore-not-found", "-o", "name").strip())


def owned(service: LiveService) -> list[str]:
    selector = f"{names.LABEL_NAME}={service.name}"
    return service.kube.items(OWNED, "-n", service.namespace, "-l", selector)


def of_release(kube: Kube) -> list[str]:
    selector = ("-l", "app.kubernetes.io/instance=llmservice-e2e")
    return kube.items("all,clusterroles,clusterrolebindings,roles,rolebindings", "-A", *selector)


def test_uninstalling_keeps_the_definition_and_what_is_served(
    kube: Kube, service: LiveService, release: Release
) -> None:
    before = owned(service)
    release.upgrade({"crds": {"keep": True}})
    release.uninstall()
    assert exists(kube, CRD)
    assert service.get()["spec"]["suspend"] is True
    assert owned(service) == before


def test_installing_again_takes_over_what_was_kept(service: LiveService, release: Release) -> None:
    before = service.deployment()["metadata"]["uid"]
    release.install()
    service.patch({"disruptionBudget": {"maxUnavailable": 2}})
    service.wait_settled(0)
    assert service.deployment()["metadata"]["uid"] == before


def test_uninstalling_without_keeping_leaves_nothing(
    kube: Kube, service: LiveService, release: Release
) -> None:
    release.uninstall()
    kube.wait_until(
        "the definition is gone, and with it every service",
        lambda: not exists(kube, CRD),
        timeout_s=60,
    )
    kube.wait_until(
        "what was made for the service is gone", lambda: owned(service) == [], timeout_s=60
    )
    # kubectl says the one or the other, depending on what it has cached.
    unknown = "the server doesn't have a resource type|could not find the requested resource"
    with pytest.raises(KubeError, match=unknown):
        service.get()
    kube.wait_until(
        "nothing of the release is left, its pods' last seconds over",
        lambda: of_release(kube) == [],
        timeout_s=60,
    )
