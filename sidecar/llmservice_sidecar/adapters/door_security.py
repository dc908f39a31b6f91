"""What guards both doors: who may call, and TLS. Follows the Secrets that are mounted for it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from llmservice_api.sidecar_config import SecurityConfig
from llmservice_api.status_report import SecurityReport

from llmservice_sidecar.adapters.callers import ApiKeys, Callers, TrustedHeader
from llmservice_sidecar.adapters.tls_pair import TlsPair

POLL_S: Final = 1.0


class DoorSecurity:
    """Keys and certificate as configured. Raises ConfigError when a Secret is of no use at all.

    Fails closed: a sidecar that was told to ask for keys, or to speak TLS, does nothing else.
    """

    def __init__(self, config: SecurityConfig, *, tenant_header: str) -> None:
        keys_dir, tls_dir = config.api_keys_dir, config.tls_dir
        self._keys = None if keys_dir is None else ApiKeys(Path(keys_dir))
        self.tls = None if tls_dir is None else TlsPair(Path(tls_dir))
        self.callers: Callers = self._keys or TrustedHeader(tenant_header)
        self._secrets = [secret for secret in (self._keys, self.tls) if secret is not None]
        for secret in self._secrets:
            secret.load_first()

    async def follow(self, *, interval_s: float = POLL_S) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            self.look()

    def look(self) -> None:
        """Take over the Secrets that changed."""
        for secret in self._secrets:
            secret.look()

    def report(self) -> SecurityReport:
        """For /status and the metrics."""
        keys, tls = self._keys, self.tls
        return SecurityReport(
            api_keys=None if keys is None else keys.count,
            api_keys_error="" if keys is None else keys.error,
            unauthenticated=0 if keys is None else keys.refusals,
            tls=tls is not None,
            tls_error="" if tls is None else tls.error,
            tls_expires_at=None if tls is None else tls.expires_at,
        )
