"""One version everywhere, a tag that names it, and a changelog that says what it brings."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from versions import ROOT, ReleaseError, agreed_version, check_tag, notes, written_versions

PLACES = ("operator/llmservice_api/__init__.py", "charts/llmservice/Chart.yaml")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the files that state a version, at version 1.2.3."""
    for place in PLACES:
        target = tmp_path / place
        target.parent.mkdir(parents=True)
        shutil.copy(ROOT / place, target)
        target.write_text(target.read_text().replace(agreed_version(), "1.2.3"))
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## Unreleased\n\n- Later.\n\n## 1.2.3 - 2026-11-30\n\n- Added a thing.\n"
        "- Fixed another.\n\n## 1.2.2 - 2026-11-01\n\n- Old.\n"
    )
    return tmp_path


def change(tree: Path, place: str, old: str, new: str) -> None:
    path = tree / place
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_this_tree_states_one_version_in_every_place() -> None:
    assert len(written_versions()) == 3
    assert set(written_versions().values()) == {agreed_version()}


def test_tag_of_the_version_is_accepted(tree: Path) -> None:
    assert check_tag("v1.2.3", tree) == "1.2.3"


@pytest.mark.parametrize("tag", ["1.2.3", "v1.2.4", "v1.2.3-rc1", "v1.2"])
def test_any_other_tag_is_refused_with_the_one_that_fits(tree: Path, tag: str) -> None:
    with pytest.raises(ReleaseError, match=r"expected v1\.2\.3"):
        check_tag(tag, tree)


@pytest.mark.parametrize("line", ["version", "appVersion"])
def test_chart_of_another_version_is_named(tree: Path, line: str) -> None:
    change(tree, "charts/llmservice/Chart.yaml", f"\n{line}: 1.2.3", f"\n{line}: 1.2.4")
    with pytest.raises(ReleaseError, match=rf"1\.2\.4  charts/llmservice/Chart.yaml \({line}\)"):
        agreed_version(tree)


def test_file_without_a_version_is_named(tree: Path) -> None:
    change(tree, PLACES[0], "__version__", "version")
    with pytest.raises(ReleaseError, match=r"llmservice_api/__init__\.py states no version"):
        agreed_version(tree)


@pytest.mark.parametrize("version", ["1.2.3+local", "1.2.3rc1", "1.2.3-rc.1", "1.2"])
def test_version_that_not_all_registries_take_is_refused(tree: Path, version: str) -> None:
    for place in PLACES:
        change(tree, place, "1.2.3", version)
    with pytest.raises(ReleaseError, match=r"must be three numbers like 1\.2\.3"):
        agreed_version(tree)


def test_notes_are_the_section_of_that_version_alone(tree: Path) -> None:
    assert notes("1.2.3", tree) == "- Added a thing.\n- Fixed another.\n"


def test_version_without_a_section_says_how_to_make_one(tree: Path) -> None:
    with pytest.raises(ReleaseError, match=r"'## 1\.2\.4 - YYYY-MM-DD': rename 'Unreleased'"):
        notes("1.2.4", tree)


def test_section_without_a_word_is_refused(tree: Path) -> None:
    change(tree, "CHANGELOG.md", "- Added a thing.\n- Fixed another.\n", "")
    with pytest.raises(ReleaseError, match=r"says nothing of 1\.2\.3"):
        notes("1.2.3", tree)
