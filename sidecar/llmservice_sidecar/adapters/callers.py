"""Who is calling: a known key's name, or whatever the tenant header says."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from llmservice_api.sidecar_config import ConfigError

from llmservice_sidecar.adapters.client_hints import tenant_of
from llmservice_sidecar.adapters.mounted_secret import MountedSecret
from llmservice_sidecar.core.errors import Reason, Unauthenticated

AUTHORIZATION: Final = "authorization"
_SCHEME: Final = "bearer"
_FIELD: Final = "spec.security.apiKeySecretRef"
_MISSING: Final = "an API key is required: send it as `Authorization: Bearer KEY`"
_UNKNOWN: Final = "incorrect API key"


class Callers(Protocol):
    """Names the tenant of a request by its headers (HTTP) or metadata (gRPC)."""

    def tenant(self, said: Mapping[str, str]) -> str | None:
        """The tenant, None: it names none. Raises Unauthenticated."""
        ...


class TrustedHeader:
    """Anybody may call and says who it is: for doors behind a gateway that sets the header."""

    def __init__(self, header: str) -> None:
        self._header = header.lower()

    def tenant(self, said: Mapping[str, str]) -> str | None:
        """What the header says."""
        return tenant_of(said.get(self._header))


class ApiKeys:
    """The keys of a mounted Secret: the name of an entry is the tenant, its value the key.

    Without a single key nobody may call. Only keyed digests of the keys are kept. `same` compares
    two of them in a time that does not depend on what is in them.
    """

    def __init__(
        self, directory: Path, *, same: Callable[[bytes, bytes], bool] = hmac.compare_digest
    ) -> None:
        self._same = same
        self._secret = MountedSecret(directory, field=_FIELD, apply=self._take)
        self._digest_key = os.urandom(32)
        self._known: tuple[tuple[str, bytes], ...] = ()
        self.refusals = 0  # requests without a known key

    @property
    def count(self) -> int:
        """How many keys are in use."""
        return len(self._known)

    @property
    def error(self) -> str:
        """What of the Secret is not in use; names entries, never values."""
        return self._secret.error

    def load_first(self) -> None:
        """Read the keys. Raises ConfigError if there is not a single one."""
        self._secret.load_first()
        if not self._known:
            raise ConfigError(f"{_FIELD}: {self.error}")

    def look(self) -> None:
        """Read the keys again if they changed."""
        self._secret.look()

    def tenant(self, said: Mapping[str, str]) -> str | None:
        """The name of the key that the request carries."""
        scheme, _, given = said.get(AUTHORIZATION, "").partition(" ")
        given = given.strip()
        if scheme.lower() != _SCHEME or not given:
            self.refusals += 1
            raise Unauthenticated(Reason.UNAUTHENTICATED, _MISSING)
        name = self._name_of(self._digest(given.encode("utf-8", "surrogateescape")))
        if name is None:
            self.refusals += 1
            raise Unauthenticated(Reason.UNAUTHENTICATED, _UNKNOWN)
        return tenant_of(name)

    def _name_of(self, digest: bytes) -> str | None:
        # Every key is compared, and each to its end: the time says nothing about any of them.
        found: str | None = None
        for name, known in self._known:
            if self._same(known, digest):
                found = name
        return found

    def _digest(self, key: bytes) -> bytes:
        return hashlib.blake2b(key, key=self._digest_key, digest_size=32).digest()

    def _take(self, directory: Path) -> str:
        files = {
            path.name: path.read_bytes()
            for path in sorted(directory.iterdir())
            if not path.name.startswith("..") and path.is_file()
        }
        keys, refused = usable_keys(files)
        self._known = tuple((name, self._digest(key)) for name, key in keys.items())
        if not keys:
            refused.append("no usable API key: every request is refused")
        return "; ".join(refused)


def usable_keys(files: Mapping[str, bytes]) -> tuple[dict[str, bytes], list[str]]:
    """The keys by entry name, and why other entries are none.

    White space around a key is no part of it: editors and `echo` leave a newline.
    """
    owners: dict[bytes, str] = {}
    refused: list[str] = []
    for name, content in sorted(files.items()):
        key = content.strip()
        if not key:
            refused.append(f"entry {name} is empty")
        elif not all(33 <= byte <= 126 for byte in key):
            refused.append(f"entry {name} holds what no header can: only visible ASCII is allowed")
        elif key in owners:
            refused.append(f"entry {name} has the key of {owners[key]}: a key names one client")
        else:
            owners[key] = name
    return {name: key for key, name in owners.items()}, refused
