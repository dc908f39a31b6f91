"""What `desired` renders, against reviewed files and against Kubernetes' own schemas."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import yaml
from golden.update import EQUIPPED, HERE, SETTINGS, inputs, rendered
from llmservice_operator.desired import desired
from llmservice_operator.service import parse_service

# The package has no types.
validate = cast("Callable[..., None]", importlib.import_module("kubernetes_validate").validate)
_SOURCES = list(inputs().values())


def test_there_are_golden_cases() -> None:
    assert len(_SOURCES) >= 6


@pytest.mark.parametrize("source", _SOURCES, ids=lambda source: source.stem)
def test_rendering_equals_the_reviewed_file(source: Path) -> None:
    golden = HERE / "manifests" / source.name
    assert rendered(source) == golden.read_text(), "if this is meant: make golden, then review"


def test_every_golden_file_has_a_source() -> None:
    assert {path.name for path in (HERE / "manifests").glob("*.yaml")} == set(inputs())


@pytest.mark.parametrize("source", _SOURCES, ids=lambda source: source.stem)
def test_kubernetes_schemas_accept_every_object(source: Path) -> None:
    service = parse_service(yaml.safe_load(source.read_text()))
    for manifest in desired(service, SETTINGS, EQUIPPED):
        # Of the others only fixtures are here; an API server holds them against these.
        if (manifest["apiVersion"], manifest["kind"]) not in EQUIPPED.served:
            validate(manifest, "1.36", strict=True)
