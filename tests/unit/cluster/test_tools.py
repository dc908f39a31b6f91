"""How the programs of the test cluster are found, without building any."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from cluster import tools
from cluster.modules import E2E, MODULES, module_of


def fake_program(folder: Path, name: str, says: str) -> Path:
    """A program that only tells its version."""
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty KUBEBUILDER_ASSETS and an empty cache."""
    folder = tmp_path / "assets"
    folder.mkdir()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(folder))
    monkeypatch.setenv("LLMSERVICE_CACHE", str(tmp_path / "cache"))
    return folder


def test_every_module_is_pinned_with_checksums() -> None:
    for module in MODULES:
        assert module.version[0].isdigit()
        assert (module.directory / "go.sum").stat().st_size > 0


def test_every_program_of_the_end_to_end_tests_has_a_module_and_a_version_probe() -> None:
    for program in E2E:
        assert module_of(program).probe[program]


def test_unknown_program_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="kube-apiserver"):
        module_of("kube-apisever")


def test_key_changes_with_the_way_of_building() -> None:
    module = module_of("etcd")
    assert dataclasses.replace(module, tags="other").key != module.key


def test_installed_program_of_the_pinned_minor_version_is_used(assets: Path) -> None:
    version = module_of("etcd").version
    path = fake_program(assets, "etcd", f"etcd Version: {version}")
    assert tools.ensure(["etcd"]) == {"etcd": path}


def test_cached_program_is_used_when_the_installed_one_is_of_another_version(
    assets: Path, tmp_path: Path
) -> None:
    fake_program(assets, "etcd", "etcd Version: 3.5.0")
    module = module_of("etcd")
    cached = tmp_path / "cache" / f"tools-etcd-{module.key}"
    cached.mkdir(parents=True)
    path = fake_program(cached, "etcd", "etcd")
    assert tools.ensure(["etcd"]) == {"etcd": path}


def test_without_any_source_the_error_says_what_to_install(
    assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A PATH with neither Go nor the program, and an index that does not answer.
    folder = tmp_path / "bin"
    folder.mkdir()
    sh = shutil.which("sh")
    assert sh is not None
    (folder / "sh").symlink_to(sh)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    with pytest.raises(tools.ToolsError, match=r"install Go 1\.26"):
        tools.ensure(["etcd"])
