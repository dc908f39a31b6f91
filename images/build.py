"""Builds the images, pushes them, or exports them for the test node.

An image is labelled with a hash of everything that goes into it and is built only when that has
changed. Standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from container_engine import ContainerEngine, EngineError, choose
from local_base import ensure_local_base, registry_reachable

ROOT: Final = Path(__file__).resolve().parents[1]
REPOSITORY: Final = "ghcr.io/llmservice"
INPUTS_LABEL: Final = "dev.llmservice.inputs"
# Fixed, so that layers depend on contents alone.
_MTIME_S: Final = 1_700_000_000


@dataclass(frozen=True, slots=True)
class Image:
    """One image: the packages of ours in it, and where its hashed requirements come from."""

    name: str
    packages: tuple[str, ...]
    requirements: Callable[[], bytes] | None
    own_base: bool = False


def _exported(extra: str) -> Callable[[], bytes]:
    def export() -> bytes:
        uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
        command = [uv, "export", "--frozen", "--quiet", "--no-default-groups", "--extra", extra]
        command += ["--no-emit-project", "--no-header", "--no-annotate"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
        if done.returncode != 0:
            raise EngineError(f"uv export failed: {done.stderr.decode()}; run `make sync` first")
        return done.stdout

    return export


def _cpu_requirements() -> bytes:
    return (ROOT / "images" / "engine" / "requirements-cpu.txt").read_bytes()


_LAB: Final = ("sidecar/llmservice_lab/__init__.py", "sidecar/llmservice_lab/engine")
IMAGES: Final = (
    Image(
        "operator",
        ("operator/llmservice_api", "operator/llmservice_operator"),
        _exported("operator"),
    ),
    Image(
        "sidecar",
        ("operator/llmservice_api", "sidecar/llmservice_sidecar"),
        _exported("sidecar"),
    ),
    Image("engine-cpu", _LAB, _cpu_requirements),
    Image("engine", _LAB, None, own_base=True),
)
# The GPU engine starts from vLLM's official image (10 GB): built when it is asked for.
DEFAULT: Final = ("operator", "sidecar", "engine-cpu")


def version() -> str:
    """The one version of the distribution, which is every image's tag."""
    text = (ROOT / "operator" / "llmservice_api" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    if found is None:
        raise EngineError("operator/llmservice_api/__init__.py holds no __version__")
    return found.group(1)


def tag(name: str) -> str:
    """The full name of an image, as the operator and the chart use it."""
    return f"{REPOSITORY}/{name}:{version()}"


def build(engine: ContainerEngine, names: Sequence[str], *, base: str | None) -> None:
    """Build those of the images whose inputs have changed."""
    for image in (image for image in IMAGES if image.name in names):
        started = time.monotonic()
        chosen = base if base or image.own_base else _default_base(engine)
        with tempfile.TemporaryDirectory(prefix=f"llmservice-{image.name}-") as folder:
            context = Path(folder)
            _fill(context, image)
            inputs = _digest(context, chosen)
            if engine.label(tag(image.name), INPUTS_LABEL) == inputs:
                _say(f"{tag(image.name)} is up to date")
                continue
            _say(f"building {tag(image.name)}")
            engine.build(context, tag(image.name), base=chosen, labels={INPUTS_LABEL: inputs})
        _say(f"built {tag(image.name)} in {time.monotonic() - started:.0f} s")


def _default_base(engine: ContainerEngine) -> str | None:
    """None for the Dockerfile's own base, which needs a registry; else the local one."""
    return None if registry_reachable() else ensure_local_base(engine, say=_say)


def _fill(context: Path, image: Image) -> None:
    shutil.copy(ROOT / "images" / image.name / "Dockerfile", context / "Dockerfile")
    if image.requirements is not None:
        (context / "requirements.txt").write_bytes(image.requirements())
    for package in image.packages:
        source = ROOT / package
        target = context / "app" / Path(*source.relative_to(ROOT).parts[1:])
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    for path in [context, *context.rglob("*")]:
        # World-readable whatever the umask was: the images run as an unknown user.
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (_MTIME_S, _MTIME_S))


def _digest(context: Path, base: str | None) -> str:
    digest = hashlib.sha256((base or "").encode())
    for path in sorted(path for path in context.rglob("*") if path.is_file()):
        digest.update(f"\0{path.relative_to(context)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _say(text: str) -> None:
    print(f"[images] {text}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("action", choices=["build", "push", "export"], nargs="?", default="build")
    parser.add_argument("--image", action="append", choices=[image.name for image in IMAGES])
    parser.add_argument("--base", help="base image (default: the Dockerfile's, else a local one)")
    parser.add_argument("--engine", help="buildah, podman or docker (default: first installed)")
    parser.add_argument("--registry", help="for push, for example registry.example.org/llm")
    parser.add_argument("--layout", type=Path, help="for export: the folder of an OCI layout")
    return parser


def main() -> int:
    """Run one action; errors name the cause and the next step."""
    parser = _parser()
    arguments = parser.parse_args()
    names: list[str] = arguments.image or list(DEFAULT)
    try:
        engine = choose(arguments.engine or None)
        if arguments.action == "push" and not arguments.registry:
            parser.error("push needs --registry (make push REGISTRY=registry.example.org/llm)")
        if arguments.action == "export" and not arguments.layout:
            parser.error("export needs --layout FOLDER")
        build(engine, names, base=arguments.base or None)
        for name in names:
            if arguments.action == "push":
                engine.push(tag(name), f"{arguments.registry}/{name}:{version()}")
            elif arguments.action == "export":
                engine.export(tag(name), arguments.layout)
                print(tag(name))
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
