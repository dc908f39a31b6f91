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
    return server_pairs(1)[0]


def server_pairs(count: int) -> list[ServerPair]:
    """So many pairs from one authority, as one that renews certificates makes them."""
    with tempfile.TemporaryDirectory() as directory:
        authority = new_authority(Path(directory))
        pairs: list[ServerPair] = []
        for number in range(count):
            certificate, key = authority.issue(
                f"server-{number}", user="server", hosts=("127.0.0.1", "localhost")
            )
            pem = (certificate.read_bytes(), key.read_bytes(), authority.path.read_bytes())
            pairs.append(ServerPair(*pem))
        return pairs
