"""Who is calling: keys of a mounted Secret, or a header."""

from __future__ import annotations

import hmac
import random
import string
from pathlib import Path

import pytest
from fakes.mounted import MountedFiles
from llmservice_api.sidecar_config import ConfigError
from llmservice_sidecar.adapters.callers import ApiKeys, TrustedHeader, usable_keys
from llmservice_sidecar.core.errors import Unauthenticated
from multidict import CIMultiDict

FILES = {"search": b"key-of-search\n", "batch": b"key-of-batch"}


def loaded(directory: Path, files: dict[str, bytes]) -> tuple[ApiKeys, MountedFiles]:
    mounted = MountedFiles(directory / "keys", files)
    keys = ApiKeys(mounted.directory)
    keys.load_first()
    return keys, mounted


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_the_header_is_believed_where_no_keys_are_asked_for() -> None:
    trusting = TrustedHeader("X-Team")
    assert trusting.tenant(CIMultiDict({"X-Team": "search"})) == "search"
    assert trusting.tenant({"x-team": "search"}) == "search"
    assert trusting.tenant({}) is None


def test_a_key_names_its_client_and_the_header_nobody(tmp_path: Path) -> None:
    keys, _ = loaded(tmp_path, FILES)
    assert keys.tenant(bearer("key-of-search") | {"x-team": "batch"}) == "search"
    assert keys.tenant(CIMultiDict({"Authorization": "bearer  key-of-batch "})) == "batch"
    assert keys.count == 2


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "key-of-search"},
        {"authorization": "Basic key-of-search"},
        {"authorization": "Bearer key-of-searc"},
        {"authorization": "Bearer key-of-search2"},
        {"authorization": "Bearer \udcff\udcfe"},
    ],
    ids=["none", "empty", "no key", "no scheme", "basic", "shorter", "longer", "not text"],
)
def test_anybody_else_is_refused_counted_and_not_quoted(
    tmp_path: Path, said: dict[str, str]
) -> None:
    keys, _ = loaded(tmp_path, FILES)
    with pytest.raises(Unauthenticated) as refused:
        keys.tenant(said)
    assert keys.refusals == 1
    assert "key-of" not in str(refused.value)


def test_every_key_is_compared_to_its_end_whichever_is_right(tmp_path: Path) -> None:
    compared: list[tuple[int, int]] = []

    def counting(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return hmac.compare_digest(one, other)

    files = {name: f"key-{name}".encode() for name in string.ascii_lowercase}
    keys = ApiKeys(MountedFiles(tmp_path / "keys", files).directory, same=counting)
    keys.load_first()
    for given in ("key-a", "key-z", "k", "k" * 5000):
        compared.clear()
        try:
            keys.tenant(bearer(given))
        except Unauthenticated:
            assert len(given) != 5
        assert compared == [(32, 32)] * 26, "all of them, at the same length"


def test_a_change_adds_and_revokes_at_once(tmp_path: Path) -> None:
    keys, mounted = loaded(tmp_path, FILES)
    mounted.put({"search": b"second", "new": b"third"})
    keys.look()
    assert [keys.tenant(bearer(key)) for key in ("second", "third")] == ["search", "new"]
    for revoked in ("key-of-search", "key-of-batch"):
        with pytest.raises(Unauthenticated):
            keys.tenant(bearer(revoked))


def test_without_a_single_key_it_does_not_start(tmp_path: Path) -> None:
    mounted = MountedFiles(tmp_path / "keys", {"search": b" \n"})
    with pytest.raises(ConfigError) as refused:
        ApiKeys(mounted.directory).load_first()
    assert str(refused.value) == (
        "spec.security.apiKeySecretRef: entry search is empty; "
        "no usable API key: every request is refused"
    )


def test_an_absent_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"apiKeySecretRef: .*/nowhere: nowhere: No such file"):
        ApiKeys(tmp_path / "nowhere").load_first()


def test_a_secret_that_was_emptied_lets_nobody_in(tmp_path: Path) -> None:
    keys, mounted = loaded(tmp_path, FILES)
    mounted.put({})
    keys.look()
    with pytest.raises(Unauthenticated):
        keys.tenant(bearer("key-of-search"))
    assert keys.error == "no usable API key: every request is refused"


def test_a_directory_that_cannot_be_read_leaves_the_keys_that_were_known(tmp_path: Path) -> None:
    keys, mounted = loaded(tmp_path, FILES)
    (mounted.directory / "..data").unlink()
    (mounted.directory / "..data").symlink_to("..gone")
    keys.look()
    assert keys.tenant(bearer("key-of-search")) == "search"
    assert keys.error.endswith("what was there before stays in use")


def test_plain_files_are_followed_too(tmp_path: Path) -> None:
    (tmp_path / "search").write_bytes(b"first")
    keys = ApiKeys(tmp_path)
    keys.load_first()
    (tmp_path / "fresh").write_bytes(b"second!")
    (tmp_path / "fresh").rename(tmp_path / "search")
    keys.look()
    assert keys.tenant(bearer("second!")) == "search"


def test_entries_that_are_no_keys_are_named_and_the_others_work() -> None:
    keys, refused = usable_keys(
        {
            "b": b"same",
            "a": b"same\r\n",
            "empty": b"\n",
            "binary": b"\x00\x01",
            "spaced": b"two words",
            "umlaut": "schlüssel".encode(),
        }
    )
    assert keys == {"a": b"same"}
    assert [entry.split()[1] for entry in refused] == ["b", "binary", "empty", "spaced", "umlaut"]
    assert "has the key of a" in refused[0]


def test_no_complaint_quotes_a_key() -> None:
    rng = random.Random(7)
    secret = "".join(rng.choices(string.ascii_letters, k=24))
    _, refused = usable_keys(
        {"a": secret.encode(), "b": secret.encode(), "c": f"{secret} \x00".encode()}
    )
    assert len(refused) == 2
    assert not [entry for entry in refused if secret in entry]
