"""What is built, when it is left alone, and when it is too large: with an engine that records."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import cast

import pytest
from build import INPUTS_LABEL, build, check_size
from catalogue import Image, image_named
from container_engine import ContainerEngine, EngineError, choose, parse_size
from context import MTIME_S

BASE = "registry.example.org/python:3.11"


class RecordingEngine:
    """Stands where buildah does: keeps the labels of what it was asked to build."""

    def __init__(self, *, added_bytes: int = 0) -> None:
        self.labels: dict[str, dict[str, str]] = {}
        self.builds = 0
        self._added_bytes = added_bytes

    def build(
        self, context: Path, tag: str, *, base: str | None, labels: dict[str, str], mtime_s: int
    ) -> None:
        assert (context / "Dockerfile").exists()
        assert (base, mtime_s) == (BASE, MTIME_S)
        self.labels[tag] = labels
        self.builds += 1

    def label(self, image: str, key: str) -> str | None:
        return self.labels.get(image, {}).get(key)

    def size_bytes(self, image: str) -> int:
        return 180_000_000 + (0 if image == BASE else self._added_bytes)


def small(name: str, requirement: bytes = b"one==1.0\n") -> Image:
    return dataclasses.replace(image_named(name), requirements=lambda: requirement)


def run(engine: RecordingEngine, image: Image) -> None:
    build(cast("ContainerEngine", engine), [image], base=BASE)


def test_image_whose_inputs_are_the_same_is_built_once() -> None:
    engine = RecordingEngine()
    run(engine, small("operator"))
    run(engine, small("operator"))
    assert engine.builds == 1


def test_other_requirements_and_another_description_build_it_again() -> None:
    engine = RecordingEngine()
    run(engine, small("operator"))
    run(engine, small("operator", b"one==1.1\n"))
    run(engine, dataclasses.replace(small("operator", b"one==1.1\n"), description="other"))
    assert engine.builds == 3


def test_image_carries_its_inputs_and_the_labels_of_the_open_containers_initiative() -> None:
    engine = RecordingEngine()
    run(engine, small("sidecar"))
    (labels,) = engine.labels.values()
    assert len(labels[INPUTS_LABEL]) == 16
    assert labels["org.opencontainers.image.base.name"] == BASE


def test_image_that_adds_more_than_its_limit_fails_even_when_it_was_built_before() -> None:
    engine = RecordingEngine(added_bytes=151_000_000)
    for _ in range(2):
        with pytest.raises(EngineError, match="operator adds 151 MB to its base; allowed: 150 MB"):
            run(engine, small("operator"))
    assert engine.builds == 1


def test_limits_are_those_that_are_promised() -> None:
    assert (image_named("operator").limit_mb, image_named("sidecar").limit_mb) == (150, 250)


def test_image_without_a_limit_may_be_large() -> None:
    check_size(image_named("engine-cpu"), added_bytes=5_000_000_000)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("341 MB", 341_000_000), ("5.34 GB", 5_340_000_000), ("12.5 kB", 12_500), ("0 B", 0)],
)
def test_sizes_are_read_as_buildah_prints_them(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


def test_size_in_another_unit_is_refused() -> None:
    with pytest.raises(EngineError, match="'341 MiB'"):
        parse_size("341 MiB")


def test_unknown_engine_is_refused_with_the_known_ones() -> None:
    with pytest.raises(EngineError, match="buildah, podman, docker"):
        choose("nerdctl")
