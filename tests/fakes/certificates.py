"""Pairs for servers, and the authority that a client trusts; new ones at every call."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from cluster.pki import new_authority


@dataclass(frozen=True, slots=True)
class ServerPair:
    """A certificate for loopback with its key, and the authority of it alone, as PEM."""

    certificate: bytes
    key: bytes
    authority: bytes

    @property
    def files(self) -> dict[str, bytes]:
        """As a Secret of type kubernetes.io/tls has them."""
        return {"tls.crt": self.certificate, "tls.key": self.key}


def server_pair() -> ServerPair:
    """A pair for 127.0.0.1 and localhost from an authority of its own."""
    with tempfile.TemporaryDirectory() as directory:
        authority = new_authority(Path(directory))
        certificate, key = authority.issue(
            "server", user="server", hosts=("127.0.0.1", "localhost")
        )
        return ServerPair(
            certificate=certificate.read_bytes(),
            key=key.read_bytes(),
            authority=authority.path.read_bytes(),
        )
