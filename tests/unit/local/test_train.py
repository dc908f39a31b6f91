"""What `llmservice train` says to a person who has not what it needs. Runs where no torch is."""

from __future__ import annotations

import subprocess
import sys

import pytest
from llmservice_local.commands.train import Stages


def train(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "llmservice_local", "train", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("options", "how"),
    [
        pytest.param((), "uv run --extra predictor llmservice train", id="a proxy"),
        pytest.param(("--kind", "default"), "uv run --group distill", id="the default"),
    ],
)
def test_without_torch_it_says_how_to_run_it(options: tuple[str, ...], how: str) -> None:
    done = train("--lengths", "answers.jsonl", *options)
    assert done.returncode == 1
    assert "torch" in done.stderr
    assert f"next: run it as `{how}" in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(("--head", "guess"), "regression-l1", id="head"),
        pytest.param(("--kind", "best"), "proxy, default", id="kind"),
        pytest.param(("--device", "tpu"), "auto, cpu, cuda", id="device"),
        pytest.param(("--learning-rate", "nan"), "above 0", id="learning rate"),
    ],
)
def test_an_option_out_of_range_is_refused_with_what_is_allowed(
    options: tuple[str, ...], said: str
) -> None:
    done = train("--lengths", "answers.jsonl", *options)
    assert done.returncode == 1
    assert said in done.stderr


def test_each_stage_of_the_work_has_a_progress_bar_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Stages() as stages:
        stages("training", 1, 2, "")
        stages("training", 2, 2, "tau 0.4")
        stages("scoring val", 3, 3, "")
    shown = capsys.readouterr().err
    assert "training: 2/2 tau 0.4" in shown
    assert "scoring val: 3/3" in shown
