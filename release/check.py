"""What of a release can be proven on one machine, without a registry: `make release-check`.

Builds the wheel and the source archive, installs the wheel into a fresh environment and asks its
programs for their versions, packages the chart, and compares all versions. Everything lands in the
folder that is given; the release workflow publishes exactly these files.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import helm_python as helm
from versions import ROOT, ReleaseError, agreed_version

CHART: Final = ROOT / "charts" / "llmservice"
_PROGRAMS: Final = (
    ("llmservice", "--version"),
    ("llmservice", "--help"),
    ("python", "-m", "llmservice_operator", "--version"),
    ("python", "-m", "llmservice_sidecar", "--help"),
    ("python", "-m", "llmservice_sidecar.activator", "--help"),
    ("python", "-m", "llmservice_sidecar.fetch", "--help"),
)


def build(output: Path, version: str) -> tuple[Path, Path]:
    """The wheel and the source archive, built into `output`."""
    _run([_uv(), "build", "--quiet", "--out-dir", str(output), str(ROOT)])
    wheel = output / f"llmservice-{version}-py3-none-any.whl"
    source = output / f"llmservice-{version}.tar.gz"
    for path in (wheel, source):
        if not path.exists():
            raise ReleaseError(f"`uv build` made no {path.name}")
    return wheel, source


def check_contents(wheel: Path, source: Path) -> None:
    """A ReleaseError when the wheel lacks a package, or an archive holds what is nobody's."""
    names = zipfile.ZipFile(wheel).namelist()
    for package in ("api", "operator", "local", "sidecar", "lab"):
        if f"llmservice_{package}/__init__.py" not in names:
            raise ReleaseError(f"{wheel.name} lacks llmservice_{package}")
    with tarfile.open(source) as archive:
        names += archive.getnames()
    unwanted = [name for name in names if "__pycache__" in name or "/.venv/" in name]
    if unwanted:
        raise ReleaseError(f"archives hold {unwanted[0]} and {len(unwanted) - 1} more like it")


def try_wheel(wheel: Path, python: str) -> None:
    """Install the wheel with its locked requirements for a Python, and run its programs."""
    with tempfile.TemporaryDirectory(prefix="llmservice-wheel-") as folder:
        environment = Path(folder) / "venv"
        locked = Path(folder) / "requirements.txt"
        export = [_uv(), "export", "--frozen", "--no-default-groups", "--extra", "cli"]
        _run([*export, "--quiet", "--no-emit-project", "--output-file", str(locked)])
        _run([_uv(), "venv", "--quiet", "--python", python, str(environment)])
        install = [_uv(), "pip", "install", "--quiet", "--python", str(environment)]
        _run([*install, "--require-hashes", "-r", str(locked)])
        _run([*install, "--no-deps", str(wheel)])
        _run([_uv(), "pip", "check", "--quiet", "--python", str(environment)])
        for program, *arguments in _PROGRAMS:
            shown = _run([str(environment / "bin" / program), *arguments], folder=Path(folder))
            _say(f"{' '.join((program, *arguments))}: {shown.strip().splitlines()[0]}")
        _say(f"all of this on {_run([str(environment / 'bin' / 'python'), '--version']).strip()}")


def package_chart(output: Path, version: str) -> Path:
    """The packaged chart, linted; a ReleaseError names the first finding."""
    findings = helm.lint(CHART)["messages"]
    bad = [finding for finding in findings if finding["severity"] >= 2]
    if bad:
        raise ReleaseError(f"helm lint: {bad[0]}")
    path = Path(helm.package(CHART, destination=output))
    with helm.Chart.load_archive(path.read_bytes()) as chart:
        if (chart.version, chart.metadata["appVersion"]) != (version, version):
            raise ReleaseError(f"{path.name} holds version {chart.version}; expected {version}")
    return path


def _run(command: Sequence[str], *, folder: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ReleaseError(f"`{' '.join(command)}` failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def _uv() -> str:
    return shutil.which("uv") or str(Path(sys.executable).with_name("uv"))


def _say(text: str) -> None:
    print(f"[release] {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Run every check; 1 with the reason at the first that fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "release")
    parser.add_argument("--python", action="append", help="try this one (default: the running one)")
    arguments = parser.parse_args()
    output: Path = arguments.output
    try:
        version = agreed_version()
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir(parents=True)
        wheel, source = build(output, version)
        check_contents(wheel, source)
        for python in arguments.python or [sys.executable]:
            try_wheel(wheel, python)
        chart = package_chart(output, version)
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path in (wheel, source, chart):
        _say(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
