"""Where a queue is read from: what a replica said, and replicas that are named by their address."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlsplit

import aiohttp
import msgspec
from llmservice_api import names
from llmservice_api.queue_view import QueueView, decode_queue_view

from llmservice_local.errors import CommandError

ANSWER_WITHIN_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One pod or process: what it said, or why it did not (`error`); exactly one of the two.

    `forbidden`: it was not asked, because this user has no right to.
    """

    name: str
    view: QueueView | None = None
    error: str = ""
    forbidden: bool = False


class QueueSource(Protocol):
    """Reads the queue of a service once."""

    async def read(self, rows: int) -> Sequence[Replica]:
        """Every replica, by name. Raises CommandError when there is none to ask."""
        ...


class UrlSource:
    """One replica by the address of its admin port, as `llmservice up` prints it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise CommandError(
                f"--url is {url!r}; it must be like http://127.0.0.1:9091",
                next_step="`llmservice up` prints the address as `admin`",
            )
        self._name = parts.netloc
        self._url = f"{parts.scheme}://{parts.netloc}"

    async def read(self, rows: int) -> Sequence[Replica]:
        """Its answer; CommandError when it gives none: there is no other to show."""
        limit = aiohttp.ClientTimeout(total=ANSWER_WITHIN_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=limit) as session,
                session.get(f"{self._url}{queue_path(rows)}") as response,
            ):
                body = await response.read()
                replica = replica_of(self._name, response.status, body)
        except (aiohttp.ClientError, TimeoutError) as error:
            cause = str(error) or f"no answer within {ANSWER_WITHIN_S:g} s"
            raise self._unreadable(cause) from error
        if replica.view is None:
            raise self._unreadable(replica.error)
        return [replica]

    def _unreadable(self, cause: str) -> CommandError:
        return CommandError(
            f"cannot read the queue of {self._url}: {cause}",
            next_step="is it the admin port (9091, or `admin` of `llmservice up`)?",
        )


def queue_path(rows: int) -> str:
    """What to ask of a sidecar's admin port."""
    return f"{names.PATH_QUEUE}?limit={rows}"


def replica_of(name: str, status: int, body: bytes) -> Replica:
    """What an HTTP answer says."""
    if status == 404:
        return Replica(name=name, error=f"it knows no {names.PATH_QUEUE}: an older sidecar")
    if status != 200:
        said = body[:200].decode(errors="replace").strip()
        return Replica(name=name, error=f"it answered {status}: {said}")
    try:
        return Replica(name=name, view=decode_queue_view(body))
    except msgspec.DecodeError as error:
        return Replica(name=name, error=f"its answer cannot be read: {error}")


def silent(name: str, within_s: float) -> Replica:
    """One that did not answer in time."""
    return Replica(name=name, error=f"no answer within {within_s:g} s")
