"""The folder that an image is built from, and the labels that say what it is."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import tomllib
from pathlib import Path

import pytest
from catalogue import DEFAULT, IMAGES, ROOT, Image, image_named
from container_engine import EngineError
from context import MTIME_S, digest, fill
from labels import fixed_labels, origin_labels
from llmservice_api import __version__, names

BASE = "registry.example.org/python:3.11@sha256:" + "0" * 64


def without_uv(image: Image) -> Image:
    """The image with requirements that need no `uv export`, which other tests cover."""
    return dataclasses.replace(image, requirements=lambda: b"one==1.0 --hash=sha256:0\n")


def filled(folder: Path, name: str) -> Path:
    folder.mkdir()
    image = image_named(name)
    fill(folder, without_uv(image) if image.requirements else image)
    return folder


def test_images_are_those_that_the_operator_knows() -> None:
    assert sorted(image.name for image in IMAGES) == sorted(names.IMAGES)
    assert set(DEFAULT) < set(names.IMAGES)
    for image in IMAGES:
        assert image.tag == f"{names.IMAGE_REPOSITORY}/{image.name}:{__version__}"


def test_unknown_image_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="operator, sidecar"):
        image_named("sidcar")


@pytest.mark.parametrize("name", names.IMAGES)
def test_everything_that_the_dockerfile_copies_is_there(name: str, tmp_path: Path) -> None:
    context = filled(tmp_path / "context", name)
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (context / "Dockerfile").read_text(), re.M)
    assert copied
    for source in " ".join(copied).split():
        assert (context / source).exists()


def test_the_same_tree_gives_the_same_context_whatever_its_times_and_umask(tmp_path: Path) -> None:
    first = filled(tmp_path / "first", "sidecar")
    old = os.umask(0o077)
    try:
        second = filled(tmp_path / "second", "sidecar")
    finally:
        os.umask(old)
    assert digest(first, besides="base") == digest(second, besides="base")
    for path in second.rglob("*"):
        state = path.stat()
        assert (state.st_mtime, state.st_mode & 0o777) == (
            MTIME_S,
            0o755 if path.is_dir() else 0o644,
        )


def test_digest_changes_with_a_byte_a_name_and_the_base(tmp_path: Path) -> None:
    context = filled(tmp_path / "context", "operator")
    before = digest(context, besides="base")
    assert digest(context, besides="another base") != before
    shutil.move(context / "LICENSE", context / "LICENCE")
    renamed = digest(context, besides="base")
    (context / "LICENCE").write_text("other")
    assert len({before, renamed, digest(context, besides="base")}) == 3


def test_requirements_change_with_the_scripts_that_install_them_and_no_others(
    tmp_path: Path,
) -> None:
    # buildah keeps a step whose mounts have changed: the file that it copies before must differ.
    lean, full = (
        (filled(tmp_path / name, name) / "requirements.txt").read_text().splitlines()[-1]
        for name in ("sidecar", "engine-cpu")
    )
    assert lean.startswith("# Installed by ")
    assert lean != full


def test_no_byte_code_and_nothing_but_our_packages_is_in_the_context(tmp_path: Path) -> None:
    context = filled(tmp_path / "context", "operator")
    assert sorted(path.name for path in (context / "app").iterdir()) == [
        "llmservice_api",
        "llmservice_operator",
    ]
    assert list(context.rglob("__pycache__")) == []


def test_bill_of_materials_starts_from_the_image_itself(tmp_path: Path) -> None:
    context = filled(tmp_path / "context", "sidecar")
    project = tomllib.loads((context / "component.toml").read_text())["project"]
    assert (project["name"], project["version"]) == ("llmservice-sidecar", __version__)
    assert {"grpcio", "msgspec"} <= {
        re.split(r"[<>=;\[ ]", one)[0] for one in project["dependencies"]
    }


def test_release_workflow_builds_with_the_time_of_the_context() -> None:
    text = (ROOT / ".github" / "workflows" / "release.yaml").read_text(encoding="utf-8")
    assert f"SOURCE_DATE_EPOCH={MTIME_S}\n" in text


def test_labels_say_what_it_is_and_on_which_base() -> None:
    labels = fixed_labels(image_named("operator"), base=BASE)
    assert labels == {
        "org.opencontainers.image.title": "llmservice-operator",
        "org.opencontainers.image.description": "Kubernetes operator of LLMService objects",
        "org.opencontainers.image.version": __version__,
        "org.opencontainers.image.source": "https://github.com/llmservice/llmservice",
        "org.opencontainers.image.url": "https://github.com/llmservice/llmservice",
        "org.opencontainers.image.documentation": (
            f"https://github.com/llmservice/llmservice/blob/v{__version__}/README.md"
        ),
        "org.opencontainers.image.vendor": "The LLMService authors",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.base.name": "registry.example.org/python:3.11",
        "org.opencontainers.image.base.digest": "sha256:" + "0" * 64,
    }


def test_base_without_a_digest_claims_none() -> None:
    labels = fixed_labels(image_named("engine"), base="docker.io/vllm/vllm-openai:v0.33.0")
    assert "org.opencontainers.image.base.digest" not in labels


def test_time_of_creation_is_source_date_epoch() -> None:
    labels = origin_labels({"SOURCE_DATE_EPOCH": "1700000000"})
    assert labels["org.opencontainers.image.created"] == "2023-11-14T22:13:20+00:00"


def test_time_that_is_no_number_is_refused_by_name() -> None:
    with pytest.raises(EngineError, match="SOURCE_DATE_EPOCH='today'"):
        origin_labels({"SOURCE_DATE_EPOCH": "today"})
