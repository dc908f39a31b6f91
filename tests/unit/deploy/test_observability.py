"""deploy/observability: what can be said of it without Docker and without a cluster."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from fakes.strict_schemas import validate
from llmservice_api import names as contract
from llmservice_sidecar.runtime import telemetry_names as names

ROOT: Final = Path(__file__).parents[3]
HERE: Final = ROOT / "deploy" / "observability"
DASHBOARDS: Final = ROOT / "charts" / "llmservice" / "dashboards"
MANIFESTS: Final = ("namespace", "collector", "jaeger", "tempo")
# Of the Compose specification; anything else in the file is a mistake.
SERVICE_KEYS: Final = {
    *("image", "command", "volumes", "ports", "mem_limit", "restart", "depends_on"),
    *("user", "network_mode", "environment"),
}


def read(name: str) -> Any:
    return yaml.safe_load((HERE / name).read_text(encoding="utf-8"))


COMPOSE: Final = read("compose.yaml")
SERVICES: Final[dict[str, Any]] = COMPOSE["services"]
DATASOURCES: Final = {
    one["uid"]: one for one in read("grafana/datasources/datasources.yaml")["datasources"]
}
STACK: Final = read("kubernetes/kube-prometheus-stack.yaml")


def manifests() -> list[dict[str, Any]]:
    texts = ((HERE / "kubernetes" / f"{name}.yaml").read_text() for name in MANIFESTS)
    return [one for text in texts for one in yaml.safe_load_all(text)]


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES.keys())
def test_every_container_is_pinned_bounded_and_made_of_known_keys(service: dict[str, Any]) -> None:
    assert set(service) <= SERVICE_KEYS
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+(\.\d+)?", service["image"])
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert set(service.get("depends_on", ())) <= set(SERVICES)


def test_what_is_mounted_exists() -> None:
    for service in SERVICES.values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert (HERE / source).exists() if source[0] == "." else source in COMPOSE["volumes"]


def test_only_loopback_is_reached() -> None:
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    on_the_machine = {name for name, one in SERVICES.items() if "network_mode" in one}
    assert on_the_machine == {"prometheus", "grafana"}
    assert SERVICES["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert "--web.listen-address=127.0.0.1:9099" in SERVICES["prometheus"]["command"]


def published() -> set[str]:
    """Addresses of loopback that something answers at."""
    ports = [port for one in SERVICES.values() for port in one.get("ports", ())]
    return {port.rpartition(":")[0] for port in ports} | {"127.0.0.1:9099"}


def test_the_collector_gives_every_span_to_both_stores_and_its_parts_are_there() -> None:
    collector = read("collector.yaml")
    pipeline = collector["service"]["pipelines"]["traces"]
    for part in ("receivers", "processors", "exporters"):
        assert set(pipeline[part]) == set(collector[part])
    assert pipeline["processors"][0] == "memory_limiter"  # else it comes too late
    assert {one["endpoint"] for one in collector["exporters"].values()} == {
        "jaeger:4317",
        "tempo:4317",
    }
    limit = collector["processors"]["memory_limiter"]["limit_mib"]
    assert limit < int(SERVICES["collector"]["mem_limit"].rstrip("m"))


@pytest.mark.parametrize("store", ["jaeger", "tempo"])
def test_stores_listen_where_the_collector_sends(store: str) -> None:
    configuration = read(f"{store}.yaml")
    receivers = configuration.get("receivers") or configuration["distributor"]["receivers"]
    assert receivers["otlp"]["protocols"]["grpc"]["endpoint"] == "0.0.0.0:4317"


def test_jaegers_parts_are_there() -> None:
    jaeger = read("jaeger.yaml")
    pipeline = jaeger["service"]["pipelines"]["traces"]
    for part in ("receivers", "processors", "exporters"):
        assert set(pipeline[part]) == set(jaeger[part])
    assert set(jaeger["service"]["extensions"]) == set(jaeger["extensions"])
    stores = set(jaeger["extensions"]["jaeger_storage"]["backends"])
    assert {jaeger["extensions"]["jaeger_query"]["storage"]["traces"]} == stores
    assert {jaeger["exporters"]["jaeger_storage_exporter"]["trace_storage"]} == stores


def test_prometheus_scrapes_the_door_as_the_charts_monitor_does() -> None:
    (target,) = read("targets/services.yaml")
    assert target["targets"] == [f"127.0.0.1:{contract.PORT_HTTP}"]
    assert {"namespace", "llmservice", "pod"} == set(target["labels"])
    jobs = {one["job_name"]: one for one in read("prometheus.yaml")["scrape_configs"]}
    (files,) = jobs["llmservice"]["file_sd_configs"]
    mounted = [volume.split(":")[1] for volume in SERVICES["prometheus"]["volumes"]]
    assert str(Path(files["files"][0]).parent) in mounted
    for job in ("collector", "tempo"):
        (static,) = jobs[job]["static_configs"]
        assert set(static["targets"]) <= published()


def test_datasources_are_where_something_listens() -> None:
    assert set(DATASOURCES) == {"prometheus", "tempo", "jaeger"}
    for source in DATASOURCES.values():
        assert source["url"].removeprefix("http://") in published()


def test_the_dashboards_find_their_datasources() -> None:
    kinds = {one["type"] for one in DATASOURCES.values()}
    found = sorted(DASHBOARDS.glob("*.json"))
    assert found
    for path in found:
        text = path.read_text(encoding="utf-8")
        variables = json.loads(text)["templating"]["list"]
        wanted = {one["name"]: one["query"] for one in variables if one["type"] == "datasource"}
        assert set(wanted.values()) <= kinds, path.name
        for block in re.findall(r'"datasource": \{[^}]*"uid": "([^"]+)"', text):
            assert block in {f"${{{name}}}" for name in wanted} | set(DATASOURCES), path.name


def test_exemplars_lead_to_traces_and_spans_to_metrics_on_machine_and_cluster() -> None:
    machine = DATASOURCES["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert {one["datasourceUid"] for one in machine} == {"tempo", "jaeger"}
    grafana = STACK["grafana"]
    cluster = {one["uid"]: one for one in grafana["additionalDataSources"]}
    assert set(cluster) | {grafana["sidecar"]["datasources"]["uid"]} == set(DATASOURCES)
    destination = grafana["sidecar"]["datasources"]["exemplarTraceIdDestinations"]
    assert destination == {"datasourceUid": "tempo", "traceIdLabelName": machine[0]["name"]}
    to_metrics = DATASOURCES["tempo"]["jsonData"]["tracesToMetrics"]
    assert cluster["tempo"]["jsonData"]["tracesToMetrics"] == to_metrics
    assert to_metrics["datasourceUid"] == "prometheus"
    for query in to_metrics["queries"]:
        (metric,) = re.findall(r"(llmservice_\w+)\{", query["query"])
        known = {value for key, value in vars(names).items() if key.startswith("METRIC_")}
        assert re.sub(r"_(bucket|total)$", "", metric) in known


def test_the_clusters_objects_are_valid_and_serve_what_the_others_ask_for() -> None:
    objects = manifests()
    for one in objects:
        validate(one)
    services = {one["metadata"]["name"]: one for one in objects if one["kind"] == "Service"}
    ports = {name: {p["port"] for p in one["spec"]["ports"]} for name, one in services.items()}
    assert {4317, 4318} <= ports["collector"]
    assert {4317, 16686} <= ports["jaeger"]
    assert {4317, 3200} <= ports["tempo"]
    for source in STACK["grafana"]["additionalDataSources"]:
        host, _, port = source["url"].removeprefix("http://").partition(":")
        assert int(port) in ports[host.removesuffix(".observability")]


def test_machine_and_cluster_run_the_same_versions_with_the_same_files() -> None:
    pods = [
        one["spec"]["template"]["spec"] for one in manifests() if "template" in one.get("spec", {})
    ]
    images = {one["containers"][0]["name"]: one["containers"][0]["image"] for one in pods}
    assert images == {name: SERVICES[name]["image"] for name in ("collector", "jaeger", "tempo")}
    kustomization = read("kustomization.yaml")
    generated = {one["name"]: one["files"] for one in kustomization["configMapGenerator"]}
    assert generated == {name: [f"{name}.yaml"] for name in images}
    assert all((HERE / path).exists() for path in kustomization["resources"])


def test_the_charts_example_sends_to_this_collector() -> None:
    example = yaml.safe_load(
        (ROOT / "charts" / "llmservice" / "examples" / "production.yaml").read_text()
    )
    assert (
        example["defaults"]["tracing"]["exporterEndpoint"] == "http://collector.observability:4317"
    )
