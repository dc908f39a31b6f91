"""The tables of docs/chart.md, made from comments."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "charts" / "describe_values.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script as a module: it lies in no package."""
    spec = importlib.util.spec_from_file_location("describe_values", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_titles_become_headings_and_comments_become_meanings(script: ModuleType) -> None:
    source = "## Pod\n\n# How many\n# cores.\ncpu: 2\n## Names\nname:\n  # The first.\n  first: a\n"
    assert script.describe(source) == (
        "### Pod\n\n| Key | Default | Meaning |\n|---|---|---|\n"
        "| `cpu` | `2` | How many cores. |\n"
        "\n### Names\n\n| Key | Default | Meaning |\n|---|---|---|\n"
        '| `name.first` | `"a"` | The first. |\n'
    )


def test_a_mapping_without_comments_inside_is_one_value(script: ModuleType) -> None:
    page = script.describe("## T\n# All of it.\nresources:\n  limits: {cpu: 1}\n")
    assert '| `resources` | `{"limits": {"cpu": 1}}` | All of it. |' in page


def test_a_group_with_a_comment_gets_a_row_of_its_own(script: ModuleType) -> None:
    page = script.describe("## T\n# A group.\ngroup:\n  # One.\n  one: [a]\n")
    assert '| `group` |  | A group. |\n| `group.one` | `["a"]` | One. |' in page


def test_a_comment_apart_from_its_key_is_not_its_text(script: ModuleType) -> None:
    with pytest.raises(script.UndocumentedError, match=r"values.yaml:4: key has no comment"):
        script.describe("## T\n# Something else.\n\nkey: 1\n")


def test_a_key_above_all_titles_is_refused(script: ModuleType) -> None:
    with pytest.raises(script.UndocumentedError, match="expected a line '## Title'"):
        script.describe("# Text.\nkey: 1\n")


def test_what_is_no_mapping_is_refused(script: ModuleType) -> None:
    with pytest.raises(script.UndocumentedError, match="expected a mapping"):
        script.describe("- a\n")
