"""A Secret as a kubelet mounts it: files behind a symlink that is swapped, never files changed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path


class MountedFiles:
    """Files of a volume in `directory`; `put` replaces them all at one moment."""

    def __init__(self, directory: Path, files: Mapping[str, bytes]) -> None:
        self.directory = directory
        self._versions = 0
        directory.mkdir(parents=True)
        self.put(files)

    def put(self, files: Mapping[str, bytes]) -> None:
        """A new version: the old one's directory goes away as soon as the symlink has moved."""
        self._versions += 1
        version = self.directory / f"..version_{self._versions}"
        version.mkdir()
        for name, content in files.items():
            (version / name).write_bytes(content)
        data, fresh = self.directory / "..data", self.directory / "..data_tmp"
        before = data.resolve() if data.is_symlink() else None
        fresh.symlink_to(version.name)
        fresh.rename(data)
        for name in files:
            link = self.directory / name
            if not link.is_symlink():
                link.symlink_to(f"..data/{name}")
        for link in self.directory.iterdir():
            if not link.name.startswith("..") and link.name not in files:
                link.unlink()
        if before is not None:
            shutil.rmtree(before)
