"""The operator's own command line."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from llmservice_api import __version__
from llmservice_operator.__main__ import main, parser, settings_of


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
