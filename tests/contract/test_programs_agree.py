"""What the operator writes is what the sidecar reads; neither loads the other's libraries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from llmservice_api import names
from llmservice_api.sidecar_config import LiveConfig, StaticConfig, load_config
from llmservice_operator.desired import desired
from llmservice_operator.service import parse_service
from llmservice_operator.settings import OperatorSettings
from llmservice_sidecar.core.policies import make_deployed_policy

ROOT: Final = Path(__file__).parents[2]
MANIFESTS: Final = sorted((ROOT / "examples").glob("*.yaml"))
CASES: Final = sorted((ROOT / "tests" / "golden" / "cases").glob("*.yaml"))
Json = dict[str, Any]

HEAVY: Final = (
    "aiohttp",
    "grpc",
    "kopf",
    "kubernetes",
    "numpy",
    "opentelemetry",
    "prometheus_client",
    "torch",
    "transformers",
    "vllm",
)


def rendered(path: Path) -> list[Json]:
    """What the operator would apply for a manifest."""
    service = parse_service(yaml.safe_load(path.read_text()))
    return list(desired(service, OperatorSettings()))


def of_kind(manifests: list[Json], kind: str) -> list[Json]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def test_there_are_examples() -> None:
    assert MANIFESTS
    assert CASES


@pytest.mark.parametrize("path", [*MANIFESTS, *CASES], ids=lambda path: path.stem)
def test_sidecar_reads_the_configuration_that_the_operator_writes(
    path: Path, tmp_path: Path
) -> None:
    for config_map in of_kind(rendered(path), "ConfigMap"):
        for name, text in config_map["data"].items():
            (tmp_path / name).write_text(text)
        static = load_config(tmp_path / names.STATIC_CONFIG_FILE, StaticConfig)
        live = load_config(tmp_path / names.LIVE_CONFIG_FILE, LiveConfig)
        assert static.engine.slots >= (live.max_concurrency or 1)
        policy = make_deployed_policy(
            live.policy, tail_weight=live.tail_weight, parameters=live.policy_parameters
        )
        assert policy.name == live.policy


@pytest.mark.parametrize("path", [*MANIFESTS, *CASES], ids=lambda path: path.stem)
def test_engine_runs_exactly_the_slots_that_the_sidecar_fills(path: Path) -> None:
    for deployment in of_kind(rendered(path), "Deployment"):
        spec = parse_service(yaml.safe_load(path.read_text())).spec
        (engine,) = [
            container
            for container in deployment["spec"]["template"]["spec"]["containers"]
            if container["name"] == names.CONTAINER_ENGINE
        ]
        args = engine["args"]
        assert args[args.index("--max-num-seqs") + 1] == str(spec.engine.max_num_seqs)
        assert args[args.index("--scheduling-policy") + 1] == "priority"


@pytest.mark.parametrize("path", [*MANIFESTS, *CASES], ids=lambda path: path.stem)
def test_pod_starts_the_sidecar_where_its_configuration_is(path: Path) -> None:
    for deployment in of_kind(rendered(path), "Deployment"):
        (sidecar,) = [
            container
            for container in deployment["spec"]["template"]["spec"]["initContainers"]
            if container["name"] == names.CONTAINER_SIDECAR
        ]
        assert sidecar["restartPolicy"] == "Always", "a native sidecar"
        mounted = {mount["mountPath"] for mount in sidecar["volumeMounts"]}
        assert sidecar["command"][-1] in mounted
        assert {port["containerPort"] for port in sidecar["ports"]} == {
            names.PORT_HTTP,
            names.PORT_GRPC,
            names.PORT_OPS,
        }


@pytest.mark.parametrize("folder", ["operator", "sidecar"])
def test_source_folder_is_no_package(folder: str) -> None:
    """`operator` is a module of Python itself."""
    assert not (ROOT / folder / "__init__.py").exists()


@pytest.mark.parametrize(
    "module",
    [
        "llmservice_api.spec",
        "llmservice_api.sidecar_config",
        "llmservice_api.status_report",
        "llmservice_sidecar.core.gate",
        "llmservice_sidecar.core.policy",
        "llmservice_operator.desired",
        "llmservice_operator.status",
    ],
)
def test_import_brings_no_heavy_library(module: str) -> None:
    script = f"import {module}, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize(
    ("program", "foreign"),
    [
        ("llmservice_operator.__main__", ("grpc", "numpy", "torch", "llmservice_sidecar")),
        ("llmservice_sidecar.__main__", ("kopf", "kubernetes", "torch", "llmservice_operator")),
    ],
)
def test_program_does_not_load_the_other_ones_libraries(
    program: str, foreign: tuple[str, ...]
) -> None:
    script = f"import {program}, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & set(foreign)
