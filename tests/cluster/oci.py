"""Images as files: an OCI layout that images are added to, and the tar stream of what is new."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, Any, Final

_REFERENCE: Final = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME: Final = "io.containerd.image.name"
_TYPE: Final = "application/vnd.oci.image."


def add_scratch_image(
    layout: Path, *, name: str, files: Mapping[str, Path], entrypoint: list[str]
) -> None:
    """Add an image that holds nothing but static programs and runs as an unnamed user."""
    layer = _layer(files)
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "unknown")
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": entrypoint, "User": "65532:65532"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_TYPE}manifest.v1+json",
        "config": _store(layout, json.dumps(config).encode(), f"{_TYPE}config.v1+json"),
        "layers": [_store(layout, layer, f"{_TYPE}layer.v1.tar")],
    }
    entry = _store(layout, json.dumps(manifest).encode(), f"{_TYPE}manifest.v1+json")
    entry["annotations"] = {_REFERENCE: name}
    _write_index(layout, [m for m in _index(layout) if _name(m) != name] + [entry])
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}', encoding="utf-8")


def digest_of(layout: Path, name: str) -> str:
    """The manifest digest of an image in the layout; ValueError when it is not there."""
    return str(_entry(layout, name)["digest"])


def write_new(layout: Path, name: str, *, known: Collection[str], stream: IO[bytes]) -> None:
    """Write an image to `stream` as a tar file, without the blobs whose digests are known."""
    entry = dict(_entry(layout, name))
    entry["annotations"] = {_CONTAINERD_NAME: name, _REFERENCE: name.rpartition(":")[2]}
    manifest = json.loads(_blob(layout, entry["digest"]).read_bytes())
    digests = [entry["digest"], manifest["config"]["digest"]]
    # The manifest and its configuration are small and always sent: the reader starts from them.
    digests += [item["digest"] for item in manifest["layers"] if item["digest"] not in known]
    index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        for digest in dict.fromkeys(digests):
            archive.add(_blob(layout, digest), arcname=f"blobs/sha256/{digest.partition(':')[2]}")
        _add(archive, "index.json", index)


def prune(layout: Path) -> None:
    """Remove images that lost their name to a newer one, and blobs that no image refers to."""
    named = [entry for entry in _index(layout) if _name(entry)]
    _write_index(layout, named)
    used: set[str] = set()
    for entry in named:
        manifest = json.loads(_blob(layout, entry["digest"]).read_bytes())
        used |= {entry["digest"], manifest["config"]["digest"]}
        used |= {item["digest"] for item in manifest["layers"]}
    for path in (layout / "blobs" / "sha256").iterdir():
        if f"sha256:{path.name}" not in used:
            path.unlink()


def _layer(files: Mapping[str, Path]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, path in sorted(files.items()):
            _add(archive, name, path.read_bytes(), mode=0o755)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    archive.addfile(member, io.BytesIO(content))


def _store(layout: Path, content: bytes, media_type: str) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    path = _blob(layout, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / "sha256" / digest.partition(":")[2]


def _index(layout: Path) -> list[dict[str, Any]]:
    path = layout / "index.json"
    return json.loads(path.read_text(encoding="utf-8"))["manifests"] if path.exists() else []


def _write_index(layout: Path, entries: list[dict[str, Any]]) -> None:
    index = {"schemaVersion": 2, "manifests": entries}
    (layout / "index.json").write_text(json.dumps(index), encoding="utf-8")


def _name(entry: dict[str, Any]) -> str | None:
    return entry.get("annotations", {}).get(_REFERENCE)


def _entry(layout: Path, name: str) -> dict[str, Any]:
    for entry in _index(layout):
        if _name(entry) == name:
            return entry
    raise ValueError(f"{layout} holds no image {name}: build and export it first (`make images`)")
