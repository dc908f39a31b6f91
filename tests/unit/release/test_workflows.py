"""What the workflows may do and what they build, read from their files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from llmservice_api import names

ROOT: Final = Path(__file__).parents[3]
WORKFLOWS: Final = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))


def loaded(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in loaded(path)["jobs"].values():
        yield from job["steps"]


def job(name: str, workflow: str = "release") -> dict[str, Any]:
    return loaded(ROOT / ".github" / "workflows" / f"{workflow}.yaml")["jobs"][name]


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def workflow(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_there_are_two_workflows() -> None:
    assert [path.stem for path in WORKFLOWS] == ["ci", "release"]


def test_every_action_is_pinned_by_commit_and_says_which_release_that_is(workflow: Path) -> None:
    used = re.findall(r"uses: (.*)$", workflow.read_text(encoding="utf-8"), re.MULTILINE)
    assert used
    for line in used:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", line), line


def test_an_action_has_the_same_pin_wherever_it_is_used() -> None:
    pins: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for action, pin in re.findall(r"uses: (\S+)@(\S+)", path.read_text(encoding="utf-8")):
            pins.setdefault(action, set()).add(pin)
    assert [action for action, found in pins.items() if len(found) > 1] == []


def test_rights_are_given_to_jobs_one_by_one(workflow: Path) -> None:
    content = loaded(workflow)
    assert content["permissions"] == {}
    for name, content_of_job in content["jobs"].items():
        assert content_of_job["permissions"], name
        assert content_of_job["timeout-minutes"] <= 90, name


def test_only_the_release_page_may_write_contents_and_only_a_push_of_images_packages() -> None:
    jobs = loaded(ROOT / ".github" / "workflows" / "release.yaml")["jobs"]

    def having(right: str) -> set[str]:
        return {name for name, found in jobs.items() if found["permissions"].get(right) == "write"}

    assert having("contents") == {"release"}
    assert having("packages") == {"images", "publish", "chart"}
    assert having("id-token") == {"publish", "chart", "release"}


def test_no_script_has_an_expression_pasted_into_it(workflow: Path) -> None:
    scripts = [step["run"] for step in steps(workflow) if "run" in step]
    assert scripts
    # A value such as a branch's name would be run as code: they come as environment variables.
    assert [script for script in scripts if "${{" in script] == []


def test_a_failure_inside_a_pipe_fails_the_step(workflow: Path) -> None:
    assert loaded(workflow)["defaults"]["run"]["shell"] == "bash"


def test_no_checkout_leaves_its_token_behind(workflow: Path) -> None:
    for step in steps(workflow):
        if "checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False


def test_ci_makes_what_the_local_script_makes() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    made = re.findall(r"^make (\S+)", script, re.MULTILINE)
    assert made
    assert set(made) - {"release-check"} == set(job("make", "ci")["strategy"]["matrix"]["target"])


def test_release_builds_and_signs_every_image() -> None:
    for name in ("images", "publish"):
        assert sorted(job(name)["strategy"]["matrix"]["image"]) == sorted(names.IMAGES)


def test_release_names_nothing_before_all_images_are_built() -> None:
    assert "push-by-digest=true" in job("images")["steps"][-3]["with"]["outputs"]
    assert set(job("publish")["needs"]) == {"archives", "images"}
    assert "publish" in job("chart")["needs"]
    assert {"publish", "chart"} <= set(job("release")["needs"])


def test_release_starts_by_comparing_the_tag_with_the_versions() -> None:
    scripts = [step.get("run", "") for step in job("archives")["steps"]]
    assert any("release/versions.py --tag" in script for script in scripts)
    assert "make release-check" in scripts
