"""A real S3 server (SeaweedFS) with two users: one writes, one may only read one bucket."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import obstore
from cluster.processes import free_ports
from obstore.store import S3Store

BUCKET = "models"
READER = "[default]\naws_access_key_id = reader\naws_secret_access_key = reader-secret\n"
_PORTS = ("master", "volume", "filer", "s3")


@dataclass(frozen=True)
class S3:
    """A running server."""

    url: str

    def put(self, key: str, files: dict[str, bytes]) -> None:
        """Write files under a key."""
        store = S3Store(
            BUCKET,
            config={
                "access_key_id": "writer",
                "secret_access_key": "writer-secret",
                "region": "us-east-1",
                "endpoint": self.url,
            },
            client_options={"allow_http": True},
            retry_config={"retry_timeout": timedelta(seconds=30)},
        )
        for path, content in files.items():
            obstore.put(store, f"{key}/{path}", content)


@contextmanager
def s3_server(folder: Path) -> Generator[S3]:
    """The server for the length of the block; its data and log are in `folder`."""
    (folder / "data").mkdir(parents=True)
    identities = folder / "identities.json"
    identities.write_text(json.dumps({"identities": [
        _identity("writer", ["Admin", "Read", "Write", "List"]),
        _identity("reader", [f"Read:{BUCKET}", f"List:{BUCKET}"]),
    ]}))  # fmt: skip
    flags = [f"-{name}.port{kind}" for name in _PORTS for kind in ("", ".grpc")]
    ports = dict(zip(flags, free_ports(len(flags)), strict=True))
    url = f"http://127.0.0.1:{ports['-s3.port']}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(Path(sys.executable).with_name("weed"), "-logtostderr", "server"),
                *(f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"),
                *(f"-s3.config={identities}", "-volume.max=20", "-master.volumeSizeLimitMB=64"),
                *(f"{flag}={port}" for flag, port in ports.items()),
            ],
            stderr=log,
        )
    try:
        _until_it_answers(process, url, folder / "log")
        yield S3(url)
    finally:
        process.kill()
        process.wait()


def _identity(name: str, actions: list[str]) -> dict[str, object]:
    credentials = [{"accessKey": name, "secretKey": f"{name}-secret"}]
    return {"name": name, "credentials": credentials, "actions": actions}


def _until_it_answers(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError:
            return  # it asks who we are: it is there
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(log.read_text()[-2000:]) from None
            time.sleep(0.1)
