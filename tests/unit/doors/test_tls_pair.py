"""A certificate and its key, taken over whole or not at all."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
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


def test_the_end_of_the_certificate_is_known(tmp_path: Path) -> None:
    pair = server_pair()
    tls = TlsPair(MountedFiles(tmp_path / "tls", pair.files).directory)
    tls.load_first()
    ends = x509.load_pem_x509_certificate(pair.certificate).not_valid_after_utc
    assert tls.expires_at == ends.timestamp()
    assert tls.error == ""


@pytest.mark.parametrize("key_size", [2048, 3072])
def test_rsa_pairs_are_as_good(tmp_path: Path, key_size: int) -> None:
    files = self_signed(rsa.generate_private_key(public_exponent=65537, key_size=key_size))
    tls = TlsPair(MountedFiles(tmp_path / "tls", files).directory)
    tls.load_first()
    assert tls.error == ""
    assert tls.expires_at is not None


def test_an_expired_certificate_is_served_and_told(tmp_path: Path) -> None:
    files = self_signed(ec.generate_private_key(ec.SECP256R1()), ended=timedelta(hours=1))
    tls = TlsPair(MountedFiles(tmp_path / "tls", files).directory)
    tls.load_first()
    assert tls.error == ("tls.crt is in use, but clients will not take it: certificate has expired")
    assert tls.expires_at is None
    assert tls.pem.certificate == files["tls.crt"]


def self_signed(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, *, ended: timedelta = timedelta(hours=-1)
) -> dict[str, bytes]:
    """A pair that names itself, and ended so long ago."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "self")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now - ended)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return {"tls.crt": certificate.public_bytes(serialization.Encoding.PEM), "tls.key": pem}


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    mounted = MountedFiles(tmp_path / "tls", {"tls.crt": server_pair().certificate})
    with pytest.raises(ConfigError, match=r"tlsSecretRef: .*/tls: tls\.key: No such file"):
        TlsPair(mounted.directory).load_first()
