"""What `make images` asks of buildah, podman or docker, in the few words that differ."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

KINDS: Final = ("buildah", "podman", "docker")
_REFERENCE: Final = "org.opencontainers.image.ref.name"
_CA: Final = Path("/etc/ssl/certs/ca-certificates.crt")


class EngineError(RuntimeError):
    """The container engine is missing or failed; the message says what to do."""


@dataclass(frozen=True, slots=True)
class ContainerEngine:
    """One of KINDS; image names are passed and kept as they are."""

    kind: str

    def build(
        self, context: Path, tag: str, *, base: str | None, labels: dict[str, str], mtime_s: int
    ) -> None:
        """Build `context` as `tag`; a base on this machine only is never looked for elsewhere.

        `mtime_s` (seconds since 1970) is the time of every layer, so that equal contents give
        equal layers.
        """
        options = [f"--tag={tag}", *(f"--label={key}={value}" for key, value in labels.items())]
        options += [f"--build-arg=BASE={base}"] if base else []
        if index := os.environ.get("PIP_INDEX_URL"):
            options.append(f"--build-arg=PIP_INDEX_URL={index}")
        if _CA.exists():
            # The machine's certificates, for package indexes behind a company's own authority.
            options.append(f"--secret=id=ca,src={_CA}")
        if self.kind != "docker":
            # `docker` keeps Docker's image format; chroot needs neither a daemon nor user names.
            options += ["--isolation=chroot", "--layers", f"--timestamp={mtime_s}"]
            options += ["--pull=never"] if (base or "").startswith("localhost/") else []
        else:
            options.append(f"--build-arg=SOURCE_DATE_EPOCH={mtime_s}")
        self._run(["build", *options, str(context)])

    def label(self, image: str, key: str) -> str | None:
        """The value of a label of a local image; None without image or label."""
        command = ["inspect", "--type=image", image]
        done = subprocess.run(self._command(command), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return None
        found = json.loads(done.stdout)
        # buildah shows one object, with the image's own configuration inside; the others a list.
        config = found["OCIv1"]["config"] if self.kind == "buildah" else found[0]["Config"]
        labels: dict[str, str] = config.get("Labels") or {}
        return labels.get(key)

    def size_bytes(self, image: str) -> int:
        """The uncompressed size of an image's layers (buildah rounds to three digits).

        An image that is not on this machine, such as a base that a builder keeps to itself, is
        fetched.
        """
        if self.kind == "buildah":
            found = json.loads(self._run(["images", "--json", image]))
            return parse_size(found[0]["size"])
        command = ["inspect", "--type=image", image]
        done = subprocess.run(self._command(command), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            self._run(["pull", "--quiet", image])
        return int(json.loads(self._run(command))[0]["Size"])

    def import_root(self, archive: Path, tag: str, *, labels: dict[str, str]) -> None:
        """Make `tag` from a tar file of a root file system."""
        changes = [f"--change=LABEL {key}={value}" for key, value in labels.items()]
        if self.kind != "buildah":
            self._run(["import", *changes, str(archive), tag])
            return
        container = self._run(["from", "scratch"]).strip()
        self._run(["add", "--quiet", container, str(archive), "/"])
        self._run(["config", *(f"--label={k}={v}" for k, v in labels.items()), container])
        self._run(["commit", "--quiet", "--rm", container, tag])

    def push(self, image: str, target: str) -> None:
        """Copy a local image to a registry."""
        if self.kind == "docker":
            self._run(["tag", image, target])
            self._run(["push", target])
        else:
            self._run(["push", image, f"docker://{target}"])

    def export(self, image: str, layout: Path) -> None:
        """Put an image into an OCI layout, unless the layout has it already."""
        if self.kind == "docker":
            raise EngineError(
                "export needs ENGINE=buildah or podman; with docker use `docker save`"
            )
        if _configuration_in(layout, image) != self._identity(image):
            self._run(["push", "--quiet", image, f"oci:{layout}:{image}"])

    def _identity(self, image: str) -> str:
        """The digest of the image's configuration, which names it whatever the compression."""
        found = json.loads(self._run(["inspect", "--type=image", image]))
        return str(found["FromImageID"] if self.kind == "buildah" else found[0]["Id"])

    def _command(self, arguments: Sequence[str]) -> list[str]:
        # As root, buildah and podman leave a mount of their storage behind: give it a namespace.
        private = self.kind != "docker" and os.geteuid() == 0 and shutil.which("unshare")
        return [*(["unshare", "--mount"] if private else []), self.kind, *arguments]

    def _run(self, arguments: Sequence[str]) -> str:
        done = subprocess.run(self._command(arguments), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-25:])
            raise EngineError(f"`{self.kind} {' '.join(arguments)}` failed:\n{tail}")
        return done.stdout


def _configuration_in(layout: Path, image: str) -> str | None:
    """The digest of the configuration of `image` in an OCI layout, without its algorithm."""
    index = layout / "index.json"
    if not index.exists():
        return None
    for entry in json.loads(index.read_text(encoding="utf-8"))["manifests"]:
        if entry.get("annotations", {}).get(_REFERENCE) == image:
            blob = layout / "blobs" / entry["digest"].replace(":", "/")
            manifest = json.loads(blob.read_text(encoding="utf-8"))
            return str(manifest["config"]["digest"]).removeprefix("sha256:")
    return None


def parse_size(text: str) -> int:
    """Bytes of a size as buildah prints it ("341 MB", "1.2 GB"; powers of ten)."""
    number, _, unit = text.strip().partition(" ")
    exponent = {"B": 0, "kB": 1, "KB": 1, "MB": 2, "GB": 3, "TB": 4}.get(unit)
    if exponent is None:
        raise EngineError(f"an image's size is given as {text!r}; expected for example '341 MB'")
    return int(float(number) * 1000**exponent)


def choose(kind: str | None) -> ContainerEngine:
    """The engine that was asked for, else the first one that is installed."""
    if kind is not None and kind not in KINDS:
        raise EngineError(f"ENGINE={kind} is unknown; allowed: {', '.join(KINDS)}")
    for candidate in (kind,) if kind else KINDS:
        if shutil.which(candidate):
            return ContainerEngine(candidate)
    raise EngineError(
        f"{kind or 'no container engine'} is not installed: `apt-get install buildah`, "
        "or set ENGINE=podman or ENGINE=docker"
    )
