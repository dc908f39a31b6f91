"""A certificate and its key, taken over whole or not at all."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from fakes.certificates import ServerPair, server_pair
from fakes.mounted import MountedFiles
from llmservice_api.sidecar_config import ConfigError
from llmservice_sidecar.adapters.tls_pair import TlsPair


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """Both ends in memory; returns the client's."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    ends = [theirs, ours]
    while ends:
        for end in tuple(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
    return theirs


def trusting(pair: ServerPair) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=pair.authority.decode())


def encrypted(key: bytes) -> bytes:
    private = serialization.load_pem_private_key(key, password=None)
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"word"),
    )


def test_one_context_shows_the_pair_of_the_moment(tmp_path: Path) -> None:
    old, new = server_pair(), server_pair()
    mounted = MountedFiles(tmp_path / "tls", old.files)
    pair = TlsPair(mounted.directory)
    pair.load_first()
    context = pair.http_context()
    handshake(context, trusting(old))
    mounted.put(new.files)
    pair.look()
    handshake(context, trusting(new))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(context, trusting(old))
    assert pair.pem.certificate == new.certificate


def test_http_1_1_is_agreed_on_and_nothing_below_tls_1_2(tmp_path: Path) -> None:
    pair = server_pair()
    mounted = MountedFiles(tmp_path / "tls", pair.files)
    tls = TlsPair(mounted.directory)
    tls.load_first()
    client = trusting(pair)
    client.set_alpn_protocols(["h2", "http/1.1"])
    assert handshake(tls.http_context(), client).selected_alpn_protocol() == "http/1.1"
    assert tls.http_context().minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("broken", ["another key", "an encrypted key", "no PEM"])
def test_a_useless_pair_stops_the_start_and_its_key_is_not_quoted(
    tmp_path: Path, broken: str
) -> None:
    one, other = server_pair(), server_pair()
    key = {
        "another key": other.key,
        "an encrypted key": encrypted(one.key),
        "no PEM": b"not a key at all",
    }[broken]
    mounted = MountedFiles(tmp_path / "tls", {"tls.crt": one.certificate, "tls.key": key})
    with pytest.raises(ConfigError, match=r"spec\.security\.tlsSecretRef: tls\.crt") as refused:
        TlsPair(mounted.directory).load_first()
    assert "not a key" not in str(refused.value)
    assert "PRIVATE" not in str(refused.value)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    mounted = MountedFiles(tmp_path / "tls", {"tls.crt": server_pair().certificate})
    with pytest.raises(ConfigError, match=r"tlsSecretRef: .*/tls: tls\.key: No such file"):
        TlsPair(mounted.directory).load_first()
