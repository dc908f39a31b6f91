"""Builds the images, pushes them, or exports them for the test node.

An image is labelled with a hash of everything that goes into it and is built only when that has
changed. Standard library only.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from catalogue import DEFAULT, IMAGES, Image, image_named, version
from container_engine import ContainerEngine, EngineError, choose
from context import MTIME_S, digest, fill
from labels import fixed_labels, origin_labels
from local_base import ensure_local_base, registry_reachable

INPUTS_LABEL: Final = "dev.llmservice.inputs"
_MEGABYTE: Final = 1_000_000


def build(engine: ContainerEngine, images: Sequence[Image], *, base: str | None) -> None:
    """Build those of the images whose inputs have changed; an EngineError when one is too large."""
    for image in images:
        started = time.monotonic()
        chosen = base if base or image.own_base else _default_base(engine)
        fixed = fixed_labels(image, base=chosen or image.default_base)
        with tempfile.TemporaryDirectory(prefix=f"llmservice-{image.name}-") as folder:
            context = Path(folder)
            fill(context, image)
            inputs = digest(context, besides=repr(sorted(fixed.items())))
            if engine.label(image.tag, INPUTS_LABEL) == inputs:
                _say(f"{image.tag} is up to date")
            else:
                _say(f"building {image.tag}")
                labels = fixed | origin_labels() | {INPUTS_LABEL: inputs}
                engine.build(context, image.tag, base=chosen, labels=labels, mtime_s=MTIME_S)
                _say(f"built {image.tag} in {time.monotonic() - started:.0f} s")
        added = engine.size_bytes(image.tag) - engine.size_bytes(chosen or image.default_base)
        check_size(image, added_bytes=added)


def check_size(image: Image, *, added_bytes: int) -> None:
    """Say what the image adds to its base; an EngineError above its limit."""
    added_mb = round(added_bytes / _MEGABYTE)
    _say(f"{image.name} adds {added_mb} MB to its base")
    if image.limit_mb is not None and added_mb > image.limit_mb:
        raise EngineError(
            f"{image.name} adds {added_mb} MB to its base; allowed: {image.limit_mb} MB. "
            f"Look for what a new requirement brings, or raise limit_mb in images/catalogue.py"
        )


def _default_base(engine: ContainerEngine) -> str | None:
    """None for the Dockerfile's own base, which needs a registry; else the local one."""
    return None if registry_reachable() else ensure_local_base(engine, say=_say)


def write_contexts(images: Sequence[Image], folder: Path, *, base: str | None) -> None:
    """For builders of other kinds: a folder to build from and a file of labels for each image."""
    for image in images:
        context = folder / image.name
        context.mkdir(parents=True)
        fill(context, image)
        labels = fixed_labels(image, base=base or image.default_base) | origin_labels()
        lines = "".join(f"{key}={value}\n" for key, value in labels.items())
        (folder / f"{image.name}.labels").write_text(lines, encoding="utf-8")
        _say(f"{context} is ready to be built")


def _say(text: str) -> None:
    print(f"[images] {text}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    actions = ["build", "push", "export", "context"]
    parser.add_argument("action", choices=actions, nargs="?", default="build")
    parser.add_argument("--image", action="append", choices=[image.name for image in IMAGES])
    parser.add_argument("--base", help="base image (default: the Dockerfile's, else a local one)")
    parser.add_argument("--engine", help="buildah, podman or docker (default: first installed)")
    parser.add_argument("--registry", help="for push, for example registry.example.org/llm")
    parser.add_argument("--layout", type=Path, help="for export: the folder of an OCI layout")
    parser.add_argument("--output", type=Path, help="for context: the folder to write into")
    return parser


def main() -> int:
    """Run one action; errors name the cause and the next step."""
    parser = _parser()
    arguments = parser.parse_args()
    images = [image_named(name) for name in arguments.image or DEFAULT]
    needed = {"push": "registry", "export": "layout", "context": "output"}.get(arguments.action)
    if needed and not getattr(arguments, needed):
        parser.error(f"{arguments.action} needs --{needed}")
    try:
        if arguments.action == "context":
            write_contexts(images, arguments.output, base=arguments.base or None)
            return 0
        engine = choose(arguments.engine or None)
        build(engine, images, base=arguments.base or None)
        for image in images:
            if arguments.action == "push":
                engine.push(image.tag, f"{arguments.registry}/{image.name}:{version()}")
            elif arguments.action == "export":
                engine.export(image.tag, arguments.layout)
                print(image.tag)
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
