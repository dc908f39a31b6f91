"""The folder that an image is built from: the same files give the same bytes and the same hash."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Final

from catalogue import ROOT, Image, version

# Of every file and layer, so that layers depend on contents alone (2023-11-14).
MTIME_S: Final = 1_700_000_000
_TOOLS: Final = ROOT / "images" / "tools"
_UNWANTED: Final = shutil.ignore_patterns("__pycache__")


def fill(context: Path, image: Image) -> None:
    """Put into the empty folder `context` all that the image's Dockerfile copies."""
    shutil.copy(image.dockerfile, context / "Dockerfile")
    shutil.copy(ROOT / "LICENSE", context / "LICENSE")
    (context / "component.toml").write_text(_component(image), encoding="utf-8")
    if image.requirements is not None:
        # buildah does not look into what a step has mounted: its digest makes the step run again.
        scripts = re.findall(r"/opt/tools/(\w+\.sh)", image.dockerfile.read_text(encoding="utf-8"))
        installing = [name for name in scripts if name != "describe.sh"]
        comment = f"# Installed by {_digest_of_tools(*installing)}.\n"
        (context / "requirements.txt").write_bytes(image.requirements() + comment.encode())
        shutil.copytree(_TOOLS, context / "tools", ignore=_UNWANTED)
    for package in image.packages:
        source = ROOT / package
        target = context / "app" / Path(*source.relative_to(ROOT).parts[1:])
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=_UNWANTED)
        else:
            shutil.copy(source, target)
    for path in [context, *context.rglob("*")]:
        # World-readable whatever the umask was: the images run as an unknown user.
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (MTIME_S, MTIME_S))


def digest(context: Path, *, besides: str) -> str:
    """Sixteen hex digits that change when any file of the context or the text `besides` does."""
    made = hashlib.sha256(besides.encode())
    for path in sorted(path for path in context.rglob("*") if path.is_file()):
        made.update(f"\0{path.relative_to(context)}\0".encode())
        made.update(path.read_bytes())
    return made.hexdigest()[:16]


def _component(image: Image) -> str:
    """What the bill of materials calls the image itself, in the words of PEP 621."""
    return (
        "[project]\n"
        f'name = "llmservice-{image.name}"\n'
        f'version = "{version()}"\n'
        f'description = "{image.description}"\n'
        'license = "Apache-2.0"\n'
        f"dependencies = {json.dumps(image.direct)}\n"
        f"# Described by {_digest_of_tools('requirements.txt', 'describe.sh', 'probe.py')}.\n"
    )


def _digest_of_tools(*names: str) -> str:
    content = b"".join((_TOOLS / name).read_bytes() for name in names)
    return hashlib.sha256(content).hexdigest()[:16]
