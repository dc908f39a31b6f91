"""Finds the programs of the test cluster, or builds them once from pinned Go modules.

Order for each program: KUBEBUILDER_ASSETS and PATH (same minor version), the cache, the official
download, a build with Go. Safe to run several times at once: a lock makes the others wait.

    python -m cluster.tools [control-plane | monitoring | node | e2e | PROGRAM ...]
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cluster.golang import GoMissingError, find_go
from cluster.modules import CONTROL_PLANE, E2E, MONITORING, NODE, Module, module_of

GROUPS: Final = {
    "control-plane": CONTROL_PLANE,
    "monitoring": MONITORING,
    "node": NODE,
    "e2e": E2E,
}
_DOWNLOAD_TIMEOUT_S: Final = 4.0
_PROGRESS_EVERY_S: Final = 15.0


class ToolsError(RuntimeError):
    """A program can be neither found nor made; the message says what to install."""


def cache_root() -> Path:
    """The folder outside the tree for everything that is built once per machine."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("LLMSERVICE_CACHE") or Path(base) / "llmservice")


def ensure(programs: Iterable[str]) -> dict[str, Path]:
    """The path of each program, found or built; raises ToolsError with the next step."""
    found: dict[str, Path] = {}
    missing: dict[str, list[str]] = {}
    for program in programs:
        path = _installed(program) or _cached(program)
        if path is None:
            missing.setdefault(module_of(program).name, []).append(program)
        else:
            found[program] = path
    for names in missing.values():
        found |= _make(module_of(names[0]), names)
    return found


def search_path(programs: Mapping[str, Path]) -> str:
    """A PATH value on which the programs come first, for those that start one another."""
    folders = dict.fromkeys(str(path.parent) for path in programs.values())
    return os.pathsep.join([*folders, os.environ.get("PATH", os.defpath)])


def _installed(program: str) -> Path | None:
    """A program that the machine already has, when its minor version is the pinned one."""
    module = module_of(program)
    wanted = ".".join(module.version.split(".")[:2]) + "."
    for folder in (os.environ.get("KUBEBUILDER_ASSETS"), os.environ.get("PATH")):
        path = shutil.which(program, path=folder) if folder else None
        if path is None:
            continue
        probe = [path, *module.probe[program]]
        try:
            shown = subprocess.run(probe, capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            continue  # a wrapper that cannot tell its version is as good as absent
        if f"v{wanted}" in shown.stdout or f" {wanted}" in shown.stdout:
            return Path(path)
    return None


def _folder(module: Module) -> Path:
    return cache_root() / f"tools-{module.name}-{module.key}"


def _cached(program: str) -> Path | None:
    path = _folder(module_of(program)) / program
    return path if os.access(path, os.X_OK) else None


def _make(module: Module, programs: Sequence[str]) -> dict[str, Path]:
    folder = _folder(module)
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder.with_suffix(".lock"), f"another run prepares {module.name}"):
        # Whoever held the lock may have made some of them.
        wanted = [program for program in programs if _cached(program) is None]
        if wanted:
            with tempfile.TemporaryDirectory(dir=folder) as partial:
                if not _download(module, wanted, Path(partial)):
                    _build(module, wanted, Path(partial))
                for program in wanted:
                    (Path(partial) / program).rename(folder / program)
    return {program: folder / program for program in programs}


@contextmanager
def _lock(path: Path, waiting: str) -> Generator[None]:
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"{waiting}: waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _download(module: Module, programs: Sequence[str], folder: Path) -> bool:
    """Fetch official builds; False when there are none or they cannot be reached."""
    if not module.download:
        return False
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    for program in programs:
        url = module.download.format(version=module.version, arch=arch, program=program)
        try:
            digest = _fetch(url + ".sha256").decode().split()[0]
            content = _fetch(url)
        except (urllib.error.URLError, OSError) as error:
            _say(f"no download of {program} ({error}): building it")
            return False
        if hashlib.sha256(content).hexdigest() != digest:
            raise ToolsError(f"{url} does not match its published sha256: remove any proxy cache")
        (folder / program).write_bytes(content)
        (folder / program).chmod(0o755)
        _say(f"downloaded {url}")
    return True


def _fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=_DOWNLOAD_TIMEOUT_S) as reply:
        return reply.read()


def _build(module: Module, programs: Sequence[str], folder: Path) -> None:
    try:
        go = find_go(cache_root(), say=_say)
    except GoMissingError as error:
        raise ToolsError(
            f"{', '.join(programs)} {module.version} are not on PATH or in KUBEBUILDER_ASSETS, "
            f"cannot be downloaded, and cannot be built: {error}"
        ) from error
    command = [str(go), "build", "-v", "-trimpath", "-buildvcs=false", "-mod=readonly"]
    command += ["-ldflags", module.linker_flags()]
    command += ["-tags", module.tags] if module.tags else []
    environment = os.environ | {"CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": ""}
    environment["GOTOOLCHAIN"] = "local"
    _say(
        f"building {', '.join(programs)} {module.version} "
        f"(about {module.minutes:g} minutes on 2 cores, once)"
    )
    started = time.monotonic()
    for program in programs:
        # One output file each: packages such as `server/v3` and `all-in-one` name themselves badly.
        target = ["-o", str(folder / program), module.packages[program]]
        _run_build([*command, *target], module.directory, environment)
    _say(f"built {', '.join(programs)} in {time.monotonic() - started:.0f} s")


def _run_build(command: Sequence[str], directory: Path, environment: Mapping[str, str]) -> None:
    """Run one `go build -v`, whose lines are the packages as they are compiled."""
    lines: list[str] = []
    reported = time.monotonic()
    # `nice`: a first build takes minutes of every core, on a machine that does other work too.
    with subprocess.Popen(
        ["nice", "-n", "5", *command],
        cwd=directory,
        env=environment,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if time.monotonic() - reported > _PROGRESS_EVERY_S:
                reported = time.monotonic()
                _say(f"  {len(lines)} packages compiled, now {line.strip()}")
    if process.returncode != 0:
        raise ToolsError(f"{' '.join(command)} failed in {directory}:\n{''.join(lines[-20:])}")


def _say(text: str) -> None:
    print(f"[cluster tools] {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Print `program path` lines for the groups or programs that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", default=["e2e"], help="group or program (e2e)")
    names: list[str] = parser.parse_args().names
    programs = dict.fromkeys(p for name in names for p in GROUPS.get(name, (name,)))
    try:
        found = ensure(programs)
    except (ToolsError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for program, path in found.items():
        print(program, path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
