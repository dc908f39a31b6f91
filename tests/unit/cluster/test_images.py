"""What every image of ours must have, read from its Dockerfile."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from llmservice_api import names

IMAGES: Final = Path(__file__).parents[3] / "images"


def dockerfile(name: str) -> str:
    return (IMAGES / name / "Dockerfile").read_text(encoding="utf-8")


def test_every_image_that_the_names_list_has_a_dockerfile() -> None:
    assert sorted(path.parent.name for path in IMAGES.glob("*/Dockerfile")) == sorted(names.IMAGES)


@pytest.mark.parametrize("name", names.IMAGES)
def test_base_is_an_argument_and_the_user_is_a_number(name: str) -> None:
    text = dockerfile(name)
    assert re.search(r"^ARG BASE=\S+\nFROM \$\{BASE\}$", text, re.MULTILINE)
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["65532:65532"]


@pytest.mark.parametrize("name", ["operator", "sidecar", "engine-cpu"])
def test_requirements_are_installed_by_hash(name: str) -> None:
    assert "--require-hashes" in dockerfile(name)
