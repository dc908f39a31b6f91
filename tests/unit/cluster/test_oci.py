"""Images as files: what is stored, what is sent, what is thrown away."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from cluster import oci


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """An OCI layout with one image in it."""
    program = tmp_path / "program"
    program.write_bytes(b"#!/bin/true\n")
    oci.add_scratch_image(
        tmp_path / "layout", name="localhost/x:1", files={"x": program}, entrypoint=["/x"]
    )
    return tmp_path / "layout"


def sent(layout: Path, name: str, known: set[str]) -> dict[str, bytes]:
    """The files of the stream that a container runtime would read."""
    stream = io.BytesIO()
    oci.write_new(layout, name, known=known, stream=stream)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as archive:
        files = {member.name: archive.extractfile(member) for member in archive}
        return {name: file.read() for name, file in files.items() if file is not None}


def test_stream_holds_manifest_configuration_and_layer(layout: Path) -> None:
    files = sent(layout, "localhost/x:1", set())
    assert len([name for name in files if name.startswith("blobs/")]) == 3
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == "localhost/x:1"
    assert entry["digest"] == oci.digest_of(layout, "localhost/x:1")


def test_known_layers_are_not_sent_again(layout: Path) -> None:
    manifest = layout / "blobs" / oci.digest_of(layout, "localhost/x:1").replace(":", "/")
    known = {layer["digest"] for layer in json.loads(manifest.read_bytes())["layers"]}
    files = sent(layout, "localhost/x:1", known)
    assert not [name for name in files if f"sha256:{Path(name).name}" in known]


def test_newer_image_of_a_name_replaces_the_older_and_its_blobs(
    layout: Path, tmp_path: Path
) -> None:
    before = oci.digest_of(layout, "localhost/x:1")
    program = tmp_path / "newer"
    program.write_bytes(b"#!/bin/false\n")
    oci.add_scratch_image(layout, name="localhost/x:1", files={"x": program}, entrypoint=["/x"])
    assert oci.digest_of(layout, "localhost/x:1") != before
    oci.prune(layout)
    assert len(list((layout / "blobs" / "sha256").iterdir())) == 3


def test_missing_image_is_an_error_that_names_it(layout: Path) -> None:
    with pytest.raises(ValueError, match="localhost/absent:1"):
        oci.digest_of(layout, "localhost/absent:1")
