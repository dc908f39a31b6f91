"""docs/migrating.md: its manifests are valid, say the same before and after, and switch traffic."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any, Final, Protocol

import jsonschema
import pytest
import yaml
from fakes.strict_schemas import validate
from llmservice_api import names
from llmservice_operator.desired import desired
from llmservice_operator.desired.engine import OWNED_FLAGS
from llmservice_operator.service import parse_service
from llmservice_operator.settings import OperatorSettings

Json = dict[str, Any]

ROOT: Final = Path(__file__).parents[3]
PAGE: Final = (ROOT / "docs" / "migrating.md").read_text(encoding="utf-8")
CRD: Final[Json] = yaml.safe_load((ROOT / "crds" / "llmservice.yaml").read_text(encoding="utf-8"))
SCHEMA: Final[Json] = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
SNIPPETS: Final = {
    label: [each for each in yaml.safe_load_all(text) if each]
    for label, text in re.findall(r"<!-- ([\w-]+) -->\n```yaml\n(.*?)```", PAGE, re.DOTALL)
}
LABELS: Final = ("before", "after", "after-pvc", "switched", "weighted", "shared-label")
# Of these vLLM has no meaning for one server, or the page speaks of them elsewhere.
RARE_FLAGS: Final = re.compile(
    r"data-parallel-.+|api-server-count|config|grpc|headless|master-.+|node-rank|scheduler-cls"
    r"|ssl-ca-certs|ssl-cert-reqs|max-num-active-seqs|max-num-queued-tokens|max-cpu-loras"
)


class Validator(Protocol):
    def validate(self, instance: Json) -> None: ...


def crd() -> Validator:
    return jsonschema.Draft202012Validator(SCHEMA)


def manifest(label: str, kind: str) -> Json:
    return next(each for each in SNIPPETS[label] if each["kind"] == kind)


def rendered(label: str, kind: str) -> Json:
    """An object that the operator makes from the LLMService of a snippet."""
    resource = copy.deepcopy(manifest(label, names.KIND))
    resource["metadata"]["namespace"] = "default"
    made = desired(parse_service(resource), OperatorSettings())
    return next(each for each in made if each["kind"] == kind)


def pod(label: str) -> Json:
    return rendered(label, "Deployment")["spec"]["template"]


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of all rows of the tables in a text, without headings."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_yaml_block_has_a_label_so_that_it_is_tested_here() -> None:
    assert tuple(SNIPPETS) == LABELS
    assert PAGE.count("```yaml") == len(LABELS)


@pytest.mark.parametrize("label", LABELS)
def test_every_manifest_is_accepted_by_the_kinds_own_schema(label: str) -> None:
    for each in SNIPPETS[label]:
        if each["kind"] != names.KIND:
            validate(each)
            continue
        crd().validate(each)
        assert pod(label)["spec"]["containers"]


def test_service_afterwards_is_what_was_before() -> None:
    (before,) = manifest("before", "Deployment")["spec"]["template"]["spec"]["containers"]
    containers = pod("after")["spec"]["containers"]
    after = next(each for each in containers if each["name"] == names.CONTAINER_ENGINE)
    said = " ".join(after["args"])
    for flag in before["args"]:
        name, _, value = flag.lstrip("-").partition("=")
        assert re.search(rf"--{name}[= ]{re.escape(value)}" if value else f"--{name}", said) or (
            name in {"revision", "tensor-parallel-size", "otlp-traces-endpoint"}
        )
    assert after["resources"]["limits"]["nvidia.com/gpu"] in {1, "1"}
    assert after["resources"]["requests"].items() >= before["resources"]["requests"].items()


@pytest.mark.parametrize("field", ["nodeSelector", "tolerations"])
def test_pods_go_where_they_went_before(field: str) -> None:
    before = manifest("before", "Deployment")["spec"]["template"]["spec"][field]
    assert pod("after")["spec"][field] == before


def test_old_service_leads_to_the_new_pods_and_keeps_name_and_port() -> None:
    before, switched = manifest("before", "Service"), manifest("switched", "Service")
    assert switched["spec"]["selector"].items() <= pod("after")["metadata"]["labels"].items()
    assert switched["spec"]["ports"] == before["spec"]["ports"]
    assert switched["metadata"] == before["metadata"]
    every = [*pod("after")["spec"]["initContainers"], *pod("after")["spec"]["containers"]]
    ports = {port["name"]: port["containerPort"] for one in every for port in one.get("ports", [])}
    assert ports[switched["spec"]["ports"][0]["targetPort"]] == names.PORT_HTTP


def test_operator_makes_no_object_of_the_old_service_s_name() -> None:
    assert (
        manifest("after", names.KIND)["metadata"]["name"]
        != (manifest("before", "Service")["metadata"]["name"])
    )


def test_the_two_commands_switch_the_service_there_and_back() -> None:
    before, switched = manifest("before", "Service"), manifest("switched", "Service")
    found = re.findall(r"kubectl patch service (\S+) --type=json -p '(.*?)'", PAGE)
    results: list[Json] = []
    for name, text in found:
        assert name == before["metadata"]["name"]
        (operation,) = json.loads(text)
        assert (operation["op"], operation["path"]) == ("replace", "/spec/selector")
        results.append(operation["value"])
    assert results == [switched["spec"]["selector"], before["spec"]["selector"]]


def test_weighted_route_names_both_services_with_their_ports() -> None:
    (rule,) = manifest("weighted", "HTTPRoute")["spec"]["rules"]
    old, new = rule["backendRefs"]
    service = rendered("after", "Service")
    assert (old["name"], old["port"]) == (manifest("before", "Service")["metadata"]["name"], 80)
    assert (new["name"], new["port"]) == (service["metadata"]["name"], names.PORT_HTTP)
    assert old["weight"] + new["weight"] == 100


def test_label_that_both_kinds_of_pods_share_reaches_the_pods() -> None:
    labels = pod("shared-label")["metadata"]["labels"]
    assert labels["traffic"] == "llama"
    assert labels[names.LABEL_NAME] == "llama-8b"


def test_merge_patch_of_the_order_is_a_valid_change() -> None:
    (text,) = re.findall(r"kubectl patch llmsvc llama-8b --type=merge -p '(.*?)'", PAGE)
    changed = copy.deepcopy(manifest("after", names.KIND))
    changed["spec"]["predictor"] |= json.loads(text)["spec"]["predictor"]
    crd().validate(changed)
    assert changed != manifest("after", names.KIND)


def test_every_field_that_the_tables_name_is_in_the_crd() -> None:
    fields = {
        field
        for _, cell, note in rows(section("Field by field"))
        for field in re.findall(r"`(spec(?:\.\w+)+)`", f"{cell} {note}")
    }
    assert len(fields) > 25
    for field in fields:
        schema = SCHEMA
        for part in field.split("."):
            schema = schema["properties"][part]


def test_every_flag_that_is_refused_in_engine_args_has_a_row() -> None:
    text = section("Field by field")
    missing = [flag for flag in OWNED_FLAGS if f"`--{flag}`" not in text]
    assert [flag for flag in missing if not RARE_FLAGS.fullmatch(flag)] == []
