"""What every image of ours must have, read from its Dockerfile."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from llmservice_api import names

IMAGES: Final = Path(__file__).parents[3] / "images"
INSTALLED: Final = ("operator", "sidecar", "engine-cpu")


def dockerfile(name: str) -> str:
    return (IMAGES / name / "Dockerfile").read_text(encoding="utf-8")


def final_stage(name: str) -> str:
    return "FROM " + re.split(r"^FROM ", dockerfile(name), flags=re.MULTILINE)[-1]


def test_every_image_that_the_names_list_has_a_dockerfile() -> None:
    assert sorted(path.parent.name for path in IMAGES.glob("*/Dockerfile")) == sorted(names.IMAGES)


@pytest.mark.parametrize("name", names.IMAGES)
def test_hadolint_finds_nothing(name: str) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    command = [str(hadolint), str(IMAGES / name / "Dockerfile")]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.parametrize("name", names.IMAGES)
def test_every_stage_starts_from_the_one_base_that_an_argument_names(name: str) -> None:
    text = dockerfile(name)
    assert re.search(r"^ARG BASE=\S+:\S+$", text, re.MULTILINE)
    stages = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert set(stages) == {"${BASE}"}
    assert len(stages) > 1


@pytest.mark.parametrize("name", names.IMAGES)
def test_the_last_stage_runs_as_a_user_that_is_a_number(name: str) -> None:
    assert re.findall(r"^USER (.*)$", final_stage(name), re.MULTILINE) == ["65532:65532"]


@pytest.mark.parametrize("name", names.IMAGES)
def test_our_code_is_the_last_layer_so_that_a_change_of_it_moves_nothing_else(name: str) -> None:
    instructions = re.findall(r"^(RUN|COPY|ADD)\b(.*)$", final_stage(name), re.MULTILINE)
    assert instructions[-1] == ("COPY", " --from=app /app /app")


@pytest.mark.parametrize("name", INSTALLED)
def test_the_last_stage_has_the_installers_mounted_and_copies_none(name: str) -> None:
    stage = final_stage(name)
    assert "--mount=type=bind,from=tools,source=/opt/tools,target=/opt/tools" in stage
    assert not re.search(r"^COPY .*tools", stage, re.MULTILINE)
    assert not re.search(r"\bpip3? install\b", stage)


def test_requirements_are_installed_by_hash_and_from_wheels_alone() -> None:
    for script in ("install.sh", "prepare.sh"):
        text = (IMAGES / "tools" / script).read_text(encoding="utf-8")
        assert "--require-hashes" in text
        assert "--only-binary :all:" in text


@pytest.mark.parametrize(
    "path", sorted((IMAGES / "tools").glob("*.sh")), ids=lambda path: path.name
)
def test_scripts_stop_at_the_first_error(path: Path) -> None:
    assert re.search(r"^set -eu$", path.read_text(encoding="utf-8"), re.MULTILINE)
    subprocess.run(["sh", "-n", str(path)], check=True)


@pytest.mark.parametrize("name", INSTALLED)
def test_scripts_that_a_dockerfile_runs_exist_and_the_last_takes_the_installers_away(
    name: str,
) -> None:
    run = re.findall(r"/opt/tools/(\w+\.sh)", final_stage(name))
    assert (run[0], run[-2:]) == ("install.sh", ["compile.sh", "describe.sh"])
    assert all((IMAGES / "tools" / script).exists() for script in run)
    assert "/usr/local/bin/pip*" in (IMAGES / "tools" / "compile.sh").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", INSTALLED)
def test_every_image_that_installs_something_describes_it(name: str) -> None:
    assert "sh /opt/tools/describe.sh" in final_stage(name)
