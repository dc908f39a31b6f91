"""The operator's own command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from llmservice_api import __version__
from llmservice_operator.__main__ import main, parser, settings_of
from llmservice_operator.settings import Neighbours


def test_without_arguments_it_watches_the_cluster_with_its_own_images() -> None:
    settings = settings_of(parser().parse_args([]))
    assert settings.namespaces == ()
    assert settings.images.engine_cpu == f"ghcr.io/llmservice/engine-cpu:{__version__}"
    assert settings.liveness_port == 8080
    assert settings.http_port == 8081
    assert settings.backlog_url is None


def test_every_argument_reaches_the_settings() -> None:
    words = (
        "--namespace a --namespace b --sidecar-image s:1 --engine-image e:1 "
        "--engine-cpu-image c:1 --image-pull-policy Never --liveness-port 0 "
        "--http-port 0 --backlog-url http://op.ns.svc:8081/backlog"
    )
    settings = settings_of(parser().parse_args(words.split()))
    assert settings.namespaces == ("a", "b")
    assert (settings.images.sidecar, settings.images.engine) == ("s:1", "e:1")
    assert (settings.images.engine_cpu, settings.image_pull_policy) == ("c:1", "Never")
    assert settings.liveness_port is None
    assert settings.http_port is None
    assert settings.backlog_url == "http://op.ns.svc:8081/backlog"


def test_network_policies_name_the_operators_own_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_NAMESPACE", "own")
    assert settings_of(parser().parse_args([])).neighbours is None
    words = "--network-policy --monitoring-namespace prometheus --monitoring-namespace agents"
    assert settings_of(parser().parse_args(words.split())).neighbours == Neighbours(
        operator_namespace="own", monitoring_namespaces=("prometheus", "agents")
    )


def test_the_lease_is_in_the_operators_own_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    def namespace(words: str) -> str:
        return settings_of(parser().parse_args(words.split())).lease_namespace

    monkeypatch.delenv("POD_NAMESPACE", raising=False)
    assert namespace("") == "default"
    assert namespace("--namespace a --namespace b") == "a"
    monkeypatch.setenv("POD_NAMESPACE", "own")
    assert namespace("--namespace a") == "own"
    assert namespace("--namespace a --lease-namespace c") == "c"


def test_lease_and_defaults_reach_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "defaults.json"
    file.write_text('{"sidecarResources": {"requests": {"cpu": "1"}}}')
    words = f"--lease mine --lease-seconds 30 --defaults {file}"
    settings = settings_of(parser().parse_args(words.split()))
    assert (settings.lease, settings.lease_terms.duration_s) == ("mine", 30.0)
    assert settings.defaults.sidecar_resources is not None


@pytest.mark.parametrize("seconds", ["2", "301", "nan", "soon"])
def test_a_lease_of_an_odd_length_is_refused(
    seconds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["--lease-seconds", seconds])
    assert "is not a number from 3 to 300" in capsys.readouterr().err


def test_defaults_that_are_wrong_end_the_operator_with_the_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "defaults.yaml"
    file.write_text("tracing: {sampler: always_on}")
    with pytest.raises(SystemExit):
        parser().parse_args(["--defaults", str(file)])
    said = capsys.readouterr().err
    assert str(file) in said
    assert "exporterEndpoint" in said


def test_it_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.strip() == __version__


def test_without_a_cluster_it_ends_and_says_what_to_do() -> None:
    environment = {**os.environ, "KUBECONFIG": "/nonexistent/kubeconfig"}
    ended = subprocess.run(
        [sys.executable, "-m", "llmservice_operator", "--liveness-port=0"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode != 0
    assert "set KUBECONFIG" in ended.stderr
