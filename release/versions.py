"""The one version, wherever it is written, and what the changelog says of it.

python release/versions.py                     # do all places agree?
python release/versions.py --tag v0.1.0        # and with this tag, and is it in the changelog?
python release/versions.py --tag v0.1.0 --notes    # print the notes of that release
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
# Where the version is written, and how; relative to the repository.
_PLACES: Final = {
    "operator/llmservice_api/__init__.py": r'^__version__ = "([^"]+)"$',
    "charts/llmservice/Chart.yaml (version)": r"^version: (\S+)$",
    "charts/llmservice/Chart.yaml (appVersion)": r"^appVersion: \"?([^\"\s]+)\"?$",
}
# What Python packages and charts have in common: candidates (rc) they write differently.
_VERSION: Final = re.compile(r"\d+\.\d+\.\d+")


class ReleaseError(ValueError):
    """The tree cannot be released as it is; the message says what differs and what to do."""


def written_versions(root: Path = ROOT) -> dict[str, str]:
    """The version that each place states; a ReleaseError where a place states none."""
    found: dict[str, str] = {}
    for place, pattern in _PLACES.items():
        text = (root / place.partition(" ")[0]).read_text(encoding="utf-8")
        match = re.search(pattern, text, re.MULTILINE)
        if match is None:
            raise ReleaseError(f"{place} states no version: expected a line like {pattern}")
        found[place] = match.group(1)
    return found


def agreed_version(root: Path = ROOT) -> str:
    """The one version; a ReleaseError names all places when they differ."""
    written = written_versions(root)
    versions = set(written.values())
    if len(versions) > 1:
        lines = "".join(f"\n  {version}  {place}" for place, version in written.items())
        raise ReleaseError(f"versions differ; run `make generate` after changing one:{lines}")
    version = versions.pop()
    if not _VERSION.fullmatch(version):
        raise ReleaseError(f"version {version!r}: must be three numbers like 1.2.3")
    return version


def check_tag(tag: str, root: Path = ROOT) -> str:
    """The version that `tag` releases; a ReleaseError when the tree states another."""
    version = agreed_version(root)
    if tag != f"v{version}":
        raise ReleaseError(f"tag {tag!r} does not release version {version}: expected v{version}")
    return version


def notes(version: str, root: Path = ROOT) -> str:
    """The changelog's section `## VERSION - DATE`; a ReleaseError when it is missing or empty."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = rf"^## {re.escape(version)} - \d{{4}}-\d{{2}}-\d{{2}}$"
    match = re.search(rf"{heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if match is None:
        raise ReleaseError(
            f"CHANGELOG.md has no section '## {version} - YYYY-MM-DD': rename 'Unreleased' to it "
            "and open a new 'Unreleased' above"
        )
    if not match.group(1).strip():
        raise ReleaseError(f"CHANGELOG.md says nothing of {version}")
    return match.group(1).strip() + "\n"


def main() -> int:
    """Print the version or its notes; 1 with one line of reason when something disagrees."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tag", help="the git tag that is about to be released, such as v0.1.0")
    parser.add_argument("--notes", action="store_true", help="print the notes; needs --tag")
    arguments = parser.parse_args()
    if arguments.notes and not arguments.tag:
        parser.error("--notes needs --tag")
    try:
        if arguments.tag is None:
            print(agreed_version())
            return 0
        version = check_tag(arguments.tag)
        text = notes(version)
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(text if arguments.notes else version, end="" if arguments.notes else "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
