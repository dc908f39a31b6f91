"""TLS for the gRPC door, with a pair that may change while connections are open."""

from __future__ import annotations

from typing import Any

import grpc

from llmservice_sidecar.adapters.tls_pair import PemPair, TlsPair


def server_credentials(pair: TlsPair) -> grpc.ServerCredentials:
    """TLS with, for each new connection, the pair of that moment."""
    told = pair.pem

    def latest() -> Any:
        # gRPC asks before every handshake, from threads of its own; None: as before.
        nonlocal told
        if pair.pem is told:
            return None
        told = pair.pem
        return _configuration(told)

    return grpc.dynamic_ssl_server_credentials(_configuration(told), latest)


def _configuration(pem: PemPair) -> Any:
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.certificate)])
