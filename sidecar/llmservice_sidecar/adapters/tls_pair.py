"""Certificate and key of a mounted kubernetes.io/tls Secret, for both doors."""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from llmservice_api.sidecar_config import ConfigError

from llmservice_sidecar.adapters.mounted_secret import MountedSecret

CERTIFICATE_FILE: Final = "tls.crt"
KEY_FILE: Final = "tls.key"
_FIELD: Final = "spec.security.tlsSecretRef"


@dataclass(frozen=True, slots=True)
class PemPair:
    """One version of the pair, as PEM."""

    certificate: bytes
    key: bytes


class TlsPair:
    """The pair in use. A new one that cannot be used is told, and the old one stays."""

    def __init__(self, directory: Path) -> None:
        self._secret = MountedSecret(directory, field=_FIELD, apply=self._take)
        self._context: ssl.SSLContext | None = None
        self._pem: PemPair | None = None
        self.expires_at: float | None = None  # seconds since the epoch; None: it is of no use

    @property
    def error(self) -> str:
        """Why the pair that is mounted now is not the one in use."""
        return self._secret.error

    @property
    def pem(self) -> PemPair:
        """The pair in use."""
        if self._pem is None:
            raise RuntimeError("no pair yet: load_first comes first")
        return self._pem

    def load_first(self) -> None:
        """Read the pair. Raises ConfigError if there is no usable one."""
        self._secret.load_first()

    def look(self) -> None:
        """Read the pair again if it changed."""
        self._secret.look()

    def http_context(self) -> ssl.SSLContext:
        """A server's context: each new connection uses the pair of that moment."""
        listening = _server_context()

        def take_the_latest(connection: ssl.SSLObject, _name: str | None, _: object) -> None:
            if self._context is not None:
                connection.context = self._context

        listening.sni_callback = take_the_latest
        return listening

    def _take(self, directory: Path) -> str:
        certificate, key = directory / CERTIFICATE_FILE, directory / KEY_FILE
        pem = PemPair(certificate.read_bytes(), key.read_bytes())
        context = _server_context()
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except (ssl.SSLError, ValueError) as error:
            # OpenSSL's words name what is wrong, never what is in the files.
            raise ConfigError(
                f"{CERTIFICATE_FILE} and {KEY_FILE} are not a certificate and its key "
                f"in PEM ({error})"
            ) from error
        self._context, self._pem = context, pem
        try:
            self.expires_at = _expiry(context, pem.certificate)
        except ssl.SSLError as error:
            self.expires_at = None
            why = getattr(error, "verify_message", "") or error.reason
            return f"{CERTIFICATE_FILE} is in use, but clients will not take it: {why}"
        return ""


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


def _expiry(server: ssl.SSLContext, certificate: bytes) -> float:
    """When the certificate ends, by a handshake in memory with a client that trusts just it.

    Raises SSLError if even such a client refuses it: it has expired, or is none for servers.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False  # under which names clients come is not known here
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    # Beside the certificates a file may hold remarks in any language.
    client.load_verify_locations(cadata=certificate.decode("ascii", "ignore"))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server)
    for end in (theirs, ours, theirs):  # hello; certificate; verified
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    told = theirs.getpeercert() or {}
    return float(ssl.cert_time_to_seconds(str(told["notAfter"])))


def _no_password() -> str:
    # Else OpenSSL would ask the terminal.
    raise ValueError("the key is encrypted")
