"""Keys and certificates that change while a real sidecar serves: nothing is lost, all is told."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field

import aiohttp
from fakes.certificates import ServerPair, server_pair
from integration.sidecar.clients import chat_body
from integration.sidecar.secured import (
    CHAT,
    KEY,
    KEYS,
    Secured,
    answers,
    client,
    eventually,
    trust,
)


@dataclass
class Load:
    """Streams one after the other, each on a connection of its own; counts how they end."""

    url: str
    pair: ServerPair
    keys: list[str]
    in_use: dict[int, str] = field(default_factory=dict[int, str])
    whole: int = 0
    lost: int = 0

    async def run(self, user: int, until: asyncio.Event) -> None:
        context = trust(self.pair)
        while not until.is_set():
            self.in_use[user] = self.keys[-1]
            headers = {"Authorization": f"Bearer {self.keys[-1]}"}
            connector = aiohttp.TCPConnector(ssl=context, force_close=True)
            async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
                await self._one(session)

    async def _one(self, session: aiohttp.ClientSession) -> None:
        body = chat_body(4, stream=True)
        try:
            async with session.post(self.url + CHAT, json=body) as response:
                complete = (await response.read()).endswith(b"data: [DONE]\n\n")
                self.whole += complete and response.status == 200
                self.lost += not complete or response.status != 200
        except aiohttp.ClientError:
            self.lost += 1


async def test_rotation_under_load_loses_nothing(rotating: Secured) -> None:
    load = Load(rotating.url, rotating.pair, [KEY])
    done = asyncio.Event()
    async with client(rotating.pair) as session:
        long_stream = asyncio.create_task(streamed(session, rotating.url, out_len=1500))
        users = [asyncio.create_task(load.run(user, done)) for user in range(3)]
        for turn, pair in enumerate(rotating.pairs[1:]):
            fresh = f"sk-{turn}-rotated"
            # As a person rotates: the new key beside the old one, then everybody moves.
            rotating.keys.put({"search": load.keys[-1].encode(), "search-new": fresh.encode()})
            rotating.tls.put(pair.files)
            await eventually(lambda key=fresh: answers(rotating, key))
            await eventually(lambda now=pair: shown(rotating) == certificate(now))
            load.keys.append(fresh)
            await eventually(lambda key=fresh: set(load.in_use.values()) == {key})
        done.set()
        await asyncio.gather(*users)
        chunks = await long_stream
    assert chunks.endswith(b"data: [DONE]\n\n")
    assert load.lost == 0
    assert load.whole > 20
    report = (await asyncio.to_thread(rotating.process.status)).security
    assert (report.tls_error, report.api_keys_error, report.api_keys) == ("", "", 2)
    page = await asyncio.to_thread(rotating.process.get, "/metrics")
    assert b"llmservice_tls_certificate_expires_timestamp_seconds 1" in page


async def streamed(session: aiohttp.ClientSession, url: str, *, out_len: int) -> bytes:
    body = chat_body(out_len, stream=True, max_tokens=out_len)
    async with session.post(url + CHAT, json=body) as response:
        assert response.status == 200
        return await response.read()


def shown(secured: Secured) -> bytes:
    """The certificate that a new connection is shown."""
    address = ("localhost", secured.process.ports.http_port)
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(address))


def certificate(pair: ServerPair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair.certificate.decode())


async def test_a_broken_pair_keeps_the_old_one_and_is_told(rotating: Secured) -> None:
    broken = {"tls.crt": rotating.pair.certificate, "tls.key": server_pair().key}
    rotating.tls.put(broken)
    await eventually(lambda: rotating.process.status().security.tls_error)
    assert rotating.refused("tls") == 1.0
    async with client(rotating.pair) as search, search.get(f"{rotating.url}/v1/models") as response:
        assert response.status == 200
    rotating.tls.put(rotating.pair.files)
    await eventually(lambda: not rotating.process.status().security.tls_error)
    assert rotating.refused("tls") == 0.0


async def test_what_is_no_key_is_named_and_the_others_serve(rotating: Secured) -> None:
    rotating.keys.put(KEYS | {"empty": b"", "other": KEYS["batch"]})
    await eventually(lambda: rotating.process.status().security.api_keys_error)
    report = rotating.process.status().security
    assert report.api_keys == 2
    assert "entry empty is empty" in report.api_keys_error
    assert "entry other has the key of batch" in report.api_keys_error
    assert rotating.refused("api_keys") == 1.0
    assert answers(rotating, KEY)
