"""The doors' Secrets on the rendered pod, and who may reach it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from fakes.manifests import NOW, SETTINGS, deployment, pod, service, waiting
from fakes.pod_security import violations
from fakes.reports import report
from fakes.strict_schemas import validate
from llmservice_api import names
from llmservice_api.sidecar_config import SecurityConfig, StaticConfig
from llmservice_api.status_report import SecurityReport
from llmservice_operator.desired import desired
from llmservice_operator.kube_json import Manifest
from llmservice_operator.observed import Observed, Polled
from llmservice_operator.pods import pod_finding
from llmservice_operator.settings import Neighbours
from llmservice_operator.status import status

KEYS: dict[str, Any] = {"apiKeySecretRef": {"name": "clients"}}
TLS: dict[str, Any] = {"tlsSecretRef": {"name": "pair"}}


def objects(**spec: Any) -> list[Manifest]:
    manifests = list(desired(service(**spec), SETTINGS))
    for manifest in manifests:
        validate(manifest)
    return manifests


def of_kind(manifests: list[Manifest], kind: str) -> Manifest:
    return next(manifest for manifest in manifests if manifest["kind"] == kind)


def pod_of(manifests: list[Manifest]) -> Manifest:
    pod: Manifest = of_kind(manifests, "Deployment")["spec"]["template"]["spec"]
    return pod


def static_of(manifests: list[Manifest]) -> StaticConfig:
    data = of_kind(manifests, "ConfigMap")["data"][names.STATIC_CONFIG_FILE]
    return msgspec.json.decode(data, type=StaticConfig)


def mounts_of(pod: Manifest, container: str) -> dict[str, str]:
    everything = [*pod["initContainers"], *pod["containers"]]
    (found,) = (entry for entry in everything if entry["name"] == container)
    return {mount["name"]: mount["mountPath"] for mount in found["volumeMounts"]}


def volumes_of(pod: Manifest) -> dict[str, Manifest]:
    return {volume["name"]: volume for volume in pod["volumes"]}


def test_without_security_no_secret_is_mounted_and_none_is_looked_for() -> None:
    manifests = objects()
    assert not [volume for volume in pod_of(manifests)["volumes"] if "secret" in volume]
    assert static_of(manifests).security == SecurityConfig()


def test_secrets_are_mounted_into_the_sidecar_alone_where_it_looks_for_them() -> None:
    manifests = objects(security=KEYS | TLS)
    pod = pod_of(manifests)
    config = static_of(manifests).security
    mounts = mounts_of(pod, names.CONTAINER_SIDECAR)
    assert (mounts["api-keys"], mounts["tls"]) == (config.api_keys_dir, config.tls_dir)
    assert not {"api-keys", "tls"} & mounts_of(pod, names.CONTAINER_ENGINE).keys()
    assert volumes_of(pod)["api-keys"]["secret"]["secretName"] == "clients"
    assert volumes_of(pod)["tls"]["secret"]["secretName"] == "pair"


def test_a_secret_must_be_there_and_is_readable_by_any_user_of_the_container() -> None:
    pod = pod_of(objects(security=KEYS | TLS))
    for name in ("api-keys", "tls"):
        source = volumes_of(pod)[name]["secret"]
        assert not source.get("optional", False)
        assert source["defaultMode"] == 0o444
    # An fsGroup would change the owner of every file of the model's volume.
    assert "fsGroup" not in pod["securityContext"]


def test_a_secured_pod_passes_the_restricted_pod_security_level() -> None:
    assert violations(pod_of(objects(security=KEYS | TLS))) == []


def test_of_a_tls_secret_only_the_pair_is_mounted() -> None:
    items = volumes_of(pod_of(objects(security=TLS)))["tls"]["secret"]["items"]
    assert [item["path"] for item in items] == ["tls.crt", "tls.key"]


def test_one_entry_of_a_secret_can_be_the_only_key() -> None:
    one = {"apiKeySecretRef": {"name": "clients", "key": "search"}}
    items = volumes_of(pod_of(objects(security=one)))["api-keys"]["secret"]["items"]
    assert items == [{"key": "search", "path": "search"}]


@pytest.mark.parametrize(
    ("security", "scheme", "protocols"),
    [(KEYS, "http", ["http", "kubernetes.io/h2c"]), (TLS, "https", ["https", "https"])],
    ids=["keys", "tls"],
)
def test_addresses_say_whether_the_doors_speak_tls(
    security: dict[str, Any], scheme: str, protocols: list[str]
) -> None:
    wanted = service(security=security)
    told = status(wanted, Observed(), before=(), now=NOW).fields
    assert told["url"].startswith(f"{scheme}://")
    made = of_kind(objects(security=security), "Service")
    assert [port["appProtocol"] for port in made["spec"]["ports"]] == protocols


def test_probes_stay_on_the_plain_ops_port() -> None:
    pod = pod_of(objects(security=KEYS | TLS))
    for container in (*pod["initContainers"], *pod["containers"]):
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container.get(probe, {}).get("httpGet")
            if asked:
                assert asked["port"] in ("ops", names.PORT_OPS)
                assert asked.get("scheme", "HTTP") == "HTTP"


def policy(**spec: Any) -> Manifest:
    neighbours = Neighbours(operator_namespace="system", monitoring_namespaces=("prometheus",))
    settings = replace(SETTINGS, neighbours=neighbours)
    (made,) = (
        manifest
        for manifest in desired(service(**spec), settings)
        if manifest["kind"] == "NetworkPolicy"
    )
    validate(made)
    return made


def test_no_policy_is_made_unless_the_operator_is_told_to() -> None:
    assert "NetworkPolicy" not in {manifest["kind"] for manifest in objects()}


def test_doors_are_open_and_the_ops_port_is_for_operator_replicas_and_monitoring() -> None:
    doors, ops = policy()["spec"]["ingress"]
    assert {port["port"] for port in doors["ports"]} == {names.PORT_HTTP, names.PORT_GRPC}
    assert "from" not in doors
    assert [port["port"] for port in ops["ports"]] == [names.PORT_OPS]
    operator, replicas, monitoring = ops["from"]
    assert operator == {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "system"}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/component": "operator"}},
    }
    assert replicas == {"podSelector": {"matchLabels": {names.LABEL_NAME: "svc"}}}
    assert monitoring == {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "prometheus"}}
    }
    assert policy()["spec"]["podSelector"]["matchLabels"] == {names.LABEL_NAME: "svc"}


def test_no_policy_opens_the_admin_port_or_the_engine() -> None:
    opened = {port["port"] for rule in policy()["spec"]["ingress"] for port in rule["ports"]}
    assert not opened & {names.PORT_ADMIN, names.PORT_ENGINE}


def unmounted(volumes: list[Manifest], *, started: str) -> Manifest:
    """A pod on a node, before (False) or after (True) its volumes are mounted."""
    made = pod(engine=waiting("PodInitializing"))
    made["status"]["conditions"].append({"type": "PodReadyToStartContainers", "status": started})
    return made | {"spec": {"volumes": volumes}}


def test_a_pod_that_waits_for_a_secret_names_it() -> None:
    wanted = service(security=KEYS | TLS)
    volumes = pod_of(objects(security=KEYS | TLS))["volumes"]
    found = pod_finding(unmounted(volumes, started="False"), wanted.spec)
    assert found is not None
    assert found.reason == "WaitingForVolumes"
    assert "is there Secret clients, Secret pair? (kubectl describe pod svc-1)" in found.message
    later = pod_finding(unmounted(volumes, started="True"), wanted.spec)
    assert later is not None
    assert later.reason == "ContainersStarting"


def test_a_pod_without_such_volumes_just_starts() -> None:
    optional = {"name": "a", "secret": {"secretName": "a", "optional": True}}
    found = pod_finding(unmounted([optional], started="False"), service().spec)
    assert found is not None
    assert found.reason == "ContainersStarting"


def test_a_secret_that_a_replica_does_not_use_is_told_and_gates_nothing() -> None:
    live = pod("svc-0", ready=True)
    told = SecurityReport(api_keys=1, tls=True, tls_error="tls.key: no such file")
    polled = Polled(report=msgspec.structs.replace(report(), security=told))
    observed = Observed(
        workload=deployment(wanted=1, ready=1),
        pods=(live,),
        polled={live["metadata"]["uid"]: polled},
    )
    made = status(service(security=KEYS | TLS), observed, before=(), now=NOW)
    by_type = {condition.type: condition for condition in made.conditions}
    for kind in ("Ready", "WorkloadsReady"):
        assert by_type[kind].status == "True"
        assert by_type[kind].message.endswith(
            "replica svc-0: spec.security.tlsSecretRef: tls.key: no such file"
        )
    assert by_type["Stalled"].status == "False"
