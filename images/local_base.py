"""A base image for machines that reach no image registry: Debian with Python, by debootstrap."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from container_engine import ContainerEngine, EngineError

TAG: Final = "localhost/llmservice-base:bookworm"
_PACKAGES: Final = "python3,python3-venv,ca-certificates"
_RECIPE: Final = "2"
_LABEL: Final = "dev.llmservice.base"
_SOURCES: Final = Path("/etc/apt/sources.list.d/debian.sources")


def registry_reachable() -> bool:
    """Does Docker Hub answer at all? Any status will do; three seconds are enough."""
    connection = http.client.HTTPSConnection("registry-1.docker.io", timeout=3)
    try:
        connection.request("GET", "/v2/")
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def ensure_local_base(engine: ContainerEngine, *, say: Callable[[str], None]) -> str:
    """The tag of the local base image, made when it is not there yet (a minute, as root)."""
    if engine.label(TAG, _LABEL) == _RECIPE:
        return TAG
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        raise EngineError(
            "no image registry is reachable and a local base needs root and debootstrap: "
            "run `apt-get install debootstrap` as root, or name an image with BASE="
        )
    say("no image registry reachable: making a base image with debootstrap (about a minute)")
    with tempfile.TemporaryDirectory(prefix="llmservice-base-", dir="/var/tmp") as folder:
        root, archive = Path(folder) / "root", Path(folder) / "root.tar"
        _debootstrap(root)
        excluded = ["--exclude=./var/cache/apt/archives/*.deb", "--exclude=./var/lib/apt/lists/*"]
        # Devices cannot be made in a container, and each runtime mounts its own.
        excluded += ["--exclude=./dev/*", "--exclude=./proc/*", "--exclude=./sys/*"]
        subprocess.run(
            ["tar", "-C", str(root), "--numeric-owner", *excluded, "-cf", str(archive), "."],
            check=True,
        )
        engine.import_root(archive, TAG, labels={_LABEL: _RECIPE})
    return TAG


def _debootstrap(root: Path) -> None:
    # A mount namespace of its own: an interrupted run leaves no /proc mounted in the folder.
    command = ["unshare", "--mount", "debootstrap", "--variant=minbase", f"--include={_PACKAGES}"]
    done = subprocess.run(
        [*command, "bookworm", str(root), _mirror()], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise EngineError(f"debootstrap failed:\n{done.stdout[-1500:]}{done.stderr[-500:]}")


def _mirror() -> str:
    """The Debian mirror that this machine uses, else the public one."""
    if _SOURCES.exists():
        found = re.search(r"^URIs:\s*(\S+)", _SOURCES.read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return found.group(1)
    return "http://deb.debian.org/debian"
