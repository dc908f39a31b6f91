"""From manifests to local command lines: what is rewritten, what stays, what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from llmservice_local.errors import CommandError
from llmservice_local.pod import (
    LocalMachine,
    LocalPorts,
    argument,
    map_paths,
    plan_pod,
    with_port,
)
from llmservice_local.service import parse_mounts, read_document
from llmservice_operator.desired import desired
from llmservice_operator.service import parse_service
from llmservice_operator.settings import OperatorSettings

EXAMPLE = Path(__file__).parents[3] / "examples" / "tiny-cpu.yaml"


def machine(
    *, environment: Mapping[str, str] | None = None, mounts: Mapping[str, str] | None = None
) -> LocalMachine:
    return LocalMachine(
        engine_python="/venv/engine/python",
        sidecar_python="/venv/ours/python",
        mounts={
            "/models/tiny": "/cache/tiny-1",
            "/tmp": "/run/tmp",
            "/etc/llmservice": "/run/config",
            **(mounts or {}),
        },
        ports=LocalPorts(engine=4321, http=8080),
        environment=environment or {},
    )


def rendered(**spec: Any) -> tuple[Mapping[str, Any], ...]:
    document = yaml.safe_load(EXAMPLE.read_text())
    document["spec"].update(spec)
    return desired(parse_service(document), OperatorSettings())


def test_the_example_becomes_two_processes_on_this_machines_paths_and_ports() -> None:
    plan = plan_pod(rendered(), machine())
    assert plan.engine.command[0] == "/venv/engine/python"
    assert argument(plan.engine.command, "--port") == "4321"
    assert argument(plan.engine.command, "--model") == plan.model_path == "/cache/tiny-1"
    assert plan.engine.environment["HOME"] == "/run/tmp"
    assert plan.sidecar.command[0] == "/venv/ours/python"
    assert argument(plan.sidecar.command, "--config-dir") == "/run/config"
    assert plan.sidecar.environment["POD_IP"] == "127.0.0.1"
    assert plan.static.engine.url == "http://127.0.0.1:4321"
    assert (plan.static.listen.host, plan.static.listen.http_port) == ("127.0.0.1", 8080)
    assert plan.static.listen.ops_port == 0


def test_a_predictor_file_is_mapped_as_the_engines_paths_are() -> None:
    plan = plan_pod(rendered(predictor={"uri": "file:///tmp/p/s.json"}), machine())
    assert plan.static.predictor.uri == "file:///run/tmp/p/s.json"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("/models", "/data", id="the path itself"),
        pytest.param("--model=/models/a", "--model=/data/a", id="inside a flag"),
        pytest.param("file:///models/a", "file:///data/a", id="inside a file uri"),
        pytest.param("/models2/a", "/models2/a", id="not a longer name"),
        pytest.param("/srv/models/a", "/srv/models/a", id="not below another path"),
        pytest.param("/models/deep/a", "/elsewhere/a", id="the longest mount wins"),
        pytest.param("/models:/tmp/x", "/data:/models/x", id="what was put in stays"),
    ],
)
def test_container_paths_are_mapped(text: str, expected: str) -> None:
    mounts = {"/models": "/data", "/models/deep": "/elsewhere", "/tmp": "/models"}
    assert map_paths(text, mounts) == expected


@pytest.mark.parametrize("command", [["x", "--port", "1"], ["x", "--port=1"]])
def test_the_engines_port_is_replaced_in_both_spellings(command: list[str]) -> None:
    assert argument(with_port(command, 99), "--port") == "99"


def test_a_suspended_or_multi_node_service_is_refused_with_the_field() -> None:
    parallelism = {"nodes": 2}
    with pytest.raises(CommandError) as refused:
        plan_pod(rendered(parallelism=parallelism), machine())
    assert "spec.parallelism.nodes" in refused.value.next_step


def test_a_secret_is_taken_from_the_environment_or_named() -> None:
    secret = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}}
    document = yaml.safe_load(EXAMPLE.read_text())
    engine = {**document["spec"]["engine"], "env": [secret]}
    manifests = rendered(engine=engine)
    with pytest.raises(CommandError) as missing:
        plan_pod(manifests, machine())
    assert "hub" in missing.value.cause
    assert "TOKEN" in missing.value.next_step
    plan = plan_pod(manifests, machine(environment={"TOKEN": "abc"}))
    assert plan.engine.environment["TOKEN"] == "abc"


def test_secrets_of_the_doors_are_directories_here_or_named() -> None:
    made = rendered(security={"apiKeySecretRef": {"name": "a"}, "tlsSecretRef": {"name": "b"}})
    with pytest.raises(CommandError, match=r"spec\.security\.apiKeySecretRef") as refused:
        plan_pod(made, machine())
    assert "--mount /etc/llmservice-api-keys=DIR" in refused.value.next_step
    mounts = {"/etc/llmservice-api-keys": "/run/keys", "/etc/llmservice-tls": "/run/tls"}
    security = plan_pod(made, machine(mounts=mounts)).static.security
    assert (security.api_keys_dir, security.tls_dir) == ("/run/keys", "/run/tls")


@pytest.mark.parametrize("text", ["models=/x", "/models", "=x"])
def test_a_mount_that_is_no_pair_says_how_to_write_it(text: str) -> None:
    with pytest.raises(CommandError) as refused:
        parse_mounts([text])
    assert "--mount" in refused.value.next_step


def test_a_mount_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="does not exist"):
        parse_mounts([f"/models={tmp_path / 'absent'}"])
    assert parse_mounts([f"/models={tmp_path}"]) == {"/models": str(tmp_path)}


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        pytest.param("a: [", "is not YAML", id="broken YAML"),
        pytest.param("kind: Pod", "holds 0 LLMServices", id="another kind"),
        pytest.param(
            "kind: LLMService\n---\nkind: LLMService", "holds 2 LLMServices", id="two of them"
        ),
    ],
)
def test_a_file_without_exactly_one_service_is_refused(
    tmp_path: Path, text: str, cause: str
) -> None:
    path = tmp_path / "service.yaml"
    path.write_text(text)
    with pytest.raises(CommandError, match=cause):
        read_document(path)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"absent\.yaml: No such file"):
        read_document(tmp_path / "absent.yaml")
