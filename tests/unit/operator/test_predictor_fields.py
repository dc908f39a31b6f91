"""Which field of `spec.predictor` restarts pods, and how a trained model reaches the sidecar."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from fakes.manifests import SETTINGS, service
from llmservice_operator.desired import desired
from llmservice_operator.desired.config import live_config, static_config, static_hash
from llmservice_operator.kube_json import Manifest
from llmservice_operator.service import Service
from llmservice_sidecar.adapters.predictors import local_path

ROOT: Final = Path(__file__).parents[3]
CLAIM: Final = {"kind": "FineTuned", "uri": "pvc://store/proxies/qwen/"}
LIVE: Final[dict[str, dict[str, Any]]] = {"mode": {"mode": "Shadow"}}
RESTARTS: Final[dict[str, dict[str, Any]]] = {
    "mode, to Disabled": {"mode": "Disabled"},
    "kind": {"kind": "FineTuned", "uri": "file:///models/proxy"},
    "uri": {"uri": "file:///models/state"},
    "timeoutMilliseconds": {"timeoutMilliseconds": 50},
    "onlineLearning": {"onlineLearning": "Disabled"},
    "calibration": {"calibration": {"minSamples": 50}},
    "resources": {"resources": {"requests": {"cpu": "1"}}},
}


def template_of(wanted: Service) -> Manifest:
    made = desired(wanted, SETTINGS)
    found: Manifest = next(one for one in made if one["kind"] == "Deployment")["spec"]["template"]
    return found


def sidecar_mounts(wanted: Service) -> dict[str, str]:
    (sidecar,) = template_of(wanted)["spec"]["initContainers"]
    return {mount["name"]: mount["mountPath"] for mount in sidecar["volumeMounts"]}


def volumes(wanted: Service) -> dict[str, Manifest]:
    return {volume["name"]: volume for volume in template_of(wanted)["spec"]["volumes"]}


@pytest.mark.parametrize("name", LIVE)
def test_a_live_field_reaches_the_sidecar_without_a_restart(name: str) -> None:
    changed = service(predictor=LIVE[name])
    assert live_config(changed) != live_config(service())
    assert template_of(changed) == template_of(service())


@pytest.mark.parametrize("name", RESTARTS)
def test_any_other_field_replaces_pods(name: str) -> None:
    assert template_of(service(predictor=RESTARTS[name])) != template_of(service())


def test_calibration_is_in_the_file_that_is_not_re_read() -> None:
    changed = service(predictor=RESTARTS["calibration"])
    assert static_hash(changed) != static_hash(service())
    assert live_config(changed) == live_config(service())


def test_every_field_is_one_or_the_other_and_the_operations_page_says_which() -> None:
    crd = yaml.safe_load((ROOT / "crds" / "llmservice.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    fields = schema["properties"]["spec"]["properties"]["predictor"]["properties"]
    assert {name.partition(",")[0] for name in (*LIVE, *RESTARTS)} == set(fields)
    lines = (ROOT / "docs" / "operations.md").read_text().splitlines()
    (live,) = (line for line in lines if "| live: " in line)
    assert {name for name in fields if f"`predictor.{name}`" in live} == set(LIVE)


def test_a_proxy_on_a_claim_is_mounted_into_the_sidecar_alone() -> None:
    wanted = service(predictor=CLAIM)
    assert static_config(wanted).predictor.uri == "file:///mnt/predictor/proxies/qwen"
    assert sidecar_mounts(wanted)["predictor"] == "/mnt/predictor"
    source = volumes(wanted)["predictor"]["persistentVolumeClaim"]
    assert source == {"claimName": "store", "readOnly": True}
    (engine,) = template_of(wanted)["spec"]["containers"]
    assert "predictor" not in {mount["name"] for mount in engine["volumeMounts"]}


@pytest.mark.parametrize("path", ["%2e%2e/%2e%2e/etc", "a#b", "a?b", "50%", "two words", "é"])
def test_a_path_on_a_claim_is_read_as_it_is_written_and_never_outside_of_it(path: str) -> None:
    told = static_config(service(predictor=CLAIM | {"uri": f"pvc://store/{path}"})).predictor.uri
    assert told is not None
    assert local_path(told) == Path("/mnt/predictor") / path


@pytest.mark.parametrize(
    "predictor", [{}, {"uri": "file:///models/state"}, CLAIM | {"mode": "Disabled"}]
)
def test_without_a_claim_to_read_nothing_is_mounted(predictor: dict[str, Any]) -> None:
    assert "predictor" not in volumes(service(predictor=predictor))
    assert "predictor" not in sidecar_mounts(service(predictor=predictor))


def test_a_proxy_in_an_image_is_mounted_by_the_overlay_of_the_operations_page() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    (block,) = (each for each in page.split("```yaml\n")[1:] if "image:" in each)
    spec = yaml.safe_load(block.partition("```")[0])["spec"]
    wanted = service(predictor=spec["predictor"], template=spec["template"])
    assert sidecar_mounts(wanted)["proxy"] == "/models/proxy"
    assert volumes(wanted)["proxy"]["image"]["reference"].startswith("registry.example.com/")
    assert static_config(wanted).predictor.uri == "file:///models/proxy"
