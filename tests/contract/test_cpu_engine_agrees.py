"""The lab starts vLLM on a CPU as the operator's pod does: neither may import the other's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml
from llmservice_api import names
from llmservice_lab.engine.cpu import CPU_ARGUMENTS, CPU_ENVIRONMENT, ENTRY_MODULE
from llmservice_operator.desired import desired
from llmservice_operator.service import parse_service
from llmservice_operator.settings import OperatorSettings

MANIFEST: Final = Path(__file__).parents[2] / "examples" / "tiny-cpu.yaml"


def engine_on(device: str) -> dict[str, Any]:
    """The engine's container of the example, on this device, without what its user adds."""
    resource = yaml.safe_load(MANIFEST.read_text())
    engine = resource["spec"]["engine"]
    engine["device"] = device
    engine.pop("args", None)
    engine.pop("env", None)
    manifests = desired(parse_service(resource), OperatorSettings())
    (deployment,) = [each for each in manifests if each["kind"] == "Deployment"]
    (container,) = [
        each
        for each in deployment["spec"]["template"]["spec"]["containers"]
        if each["name"] == names.CONTAINER_ENGINE
    ]
    return container


def environment_of(container: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container["env"]}


def test_what_a_cpu_changes_on_the_command_line_is_what_the_lab_passes() -> None:
    cpu, gpu = engine_on("CPU")["args"], engine_on("GPU")["args"]
    assert cpu[: len(gpu)] == gpu
    assert cpu[len(gpu) :] == [word for flag in CPU_ARGUMENTS for word in flag.split("=")]


def test_the_environment_of_a_cpu_is_the_lab_s() -> None:
    cpu, gpu = environment_of(engine_on("CPU")), environment_of(engine_on("GPU"))
    assert cpu.items() - gpu.items() <= CPU_ENVIRONMENT.items()
    assert cpu.items() >= CPU_ENVIRONMENT.items()


def test_both_start_the_same_module() -> None:
    assert engine_on("CPU")["command"][-1] == ENTRY_MODULE
