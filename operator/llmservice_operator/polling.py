"""Asking sidecars for their reports: 30 s apart, at most 32 at once, the last answer is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp
import msgspec
from llmservice_api.status_report import decode_report

from llmservice_operator.cluster import ServiceKey
from llmservice_operator.kube_json import Manifest, section
from llmservice_operator.model_reports import reported_status
from llmservice_operator.observed import Polled
from llmservice_operator.pods import has_download, is_leader, is_ready, url_host
from llmservice_operator.predictor_reports import predictor_status
from llmservice_operator.security_reports import secret_errors
from llmservice_operator.settings import OperatorSettings
from llmservice_operator.status import worth_writing

Fetch = Callable[[str], Awaitable[bytes]]  # pod IP to the body of an answer

_LARGEST_BYTES: Final = 256 * 1024  # a pod must not fill the operator's memory


@dataclass(frozen=True, slots=True)
class _Target:
    uid: str
    address: str
    serves: bool  # one that has just begun to has news: its download is over


@dataclass(frozen=True, slots=True)
class _Known:
    answer: Polled
    missed: bool = False  # the question after it: no report came


class Poller:
    """Keeps the latest answer of every pod that serves or downloads; tells what is new.

    A report stays until two questions in a row have brought none: a lost packet is no news.
    `polled` is told how each question ended: answered, late, unreadable or unreachable.
    """

    def __init__(
        self,
        fetch: Fetch,
        *,
        changed: Callable[[ServiceKey], None],
        settings: OperatorSettings,
        polled: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._fetch = fetch
        self._changed = changed
        self._polled = polled
        self._settings = settings
        self._targets: dict[ServiceKey, tuple[_Target, ...]] = {}
        self._answers: dict[str, _Known] = {}
        self._due: set[_Target] = set()  # to be asked before the next round
        self._unasked = asyncio.Event()
        self._room = asyncio.Semaphore(settings.poll_concurrency)

    def watch(self, key: ServiceKey, pods: Sequence[Manifest]) -> dict[str, Polled]:
        """Ask these pods from now on; returns what is known of them, by pod uid."""
        before = self._targets.get(key, ())
        targets = tuple(
            _Target(pod["metadata"]["uid"], section(pod, "status")["podIP"], is_ready(pod))
            for pod in pods
            if _has_news(pod) and section(pod, "status").get("podIP")
        )
        self._targets[key] = targets
        for gone in {target.uid for target in before} - {target.uid for target in targets}:
            self._answers.pop(gone, None)
        if new := set(targets) - set(before):
            self._due |= new
            self._unasked.set()
        return self.answers(key)

    def answers(self, key: ServiceKey) -> dict[str, Polled]:
        """What is known of a service's pods, by pod uid."""
        targets = self._targets.get(key, ())
        known = ((target.uid, self._answers.get(target.uid)) for target in targets)
        return {uid: one.answer for uid, one in known if one is not None}

    async def ask(self, key: ServiceKey) -> None:
        """Ask the pods of one service now."""
        targets = self._targets.get(key, ())
        await asyncio.gather(*(self._ask(key, target) for target in targets))

    def forget(self, key: ServiceKey) -> None:
        """The service is gone."""
        for target in self._targets.pop(key, ()):
            self._answers.pop(target.uid, None)

    async def run(self) -> None:
        """Poll until cancelled; a pod that became ready is asked at once."""
        loop = asyncio.get_running_loop()
        next_round = loop.time() + self._settings.poll_every_s
        while True:
            pause_s = max(0.0, next_round - loop.time())
            try:
                async with asyncio.timeout(pause_s):
                    await self._unasked.wait()
            except TimeoutError:
                next_round = loop.time() + self._settings.poll_every_s
                await self._round(everyone=True)
            else:
                await self._round(everyone=False)

    async def _round(self, *, everyone: bool) -> None:
        self._unasked.clear()
        due, self._due = self._due, set()
        asked = [
            self._ask(key, target)
            for key, targets in self._targets.items()
            for target in targets
            if everyone or target in due
        ]
        await asyncio.gather(*asked)

    async def _ask(self, key: ServiceKey, target: _Target) -> None:
        async with self._room:
            answer = await self._answer(target)
        if target not in self._targets.get(key, ()):
            return  # it left while it was being asked
        known = self._answers.get(target.uid)
        if known is not None and _first_lost(known, answer):
            self._answers[target.uid] = _Known(known.answer, missed=True)
            return
        self._answers[target.uid] = _Known(answer)
        if known is None or _news(known.answer, answer):
            self._changed(key)

    async def _answer(self, target: _Target) -> Polled:
        try:
            async with asyncio.timeout(self._settings.poll_timeout_s):
                report = decode_report(await self._fetch(target.address))
        except TimeoutError:
            self._polled("late")
            return Polled(error=f"no answer in {self._settings.poll_timeout_s:.0f} s")
        except msgspec.DecodeError as error:
            self._polled("unreadable")
            return Polled(error=f"its report cannot be read: {error}")
        except (aiohttp.ClientError, OSError) as error:
            self._polled("unreachable")
            return Polled(error=str(error) or type(error).__name__)
        self._polled("answered")
        return Polled(report=report)


def http_fetch(
    session: aiohttp.ClientSession,
    *,
    port: int,
    path: str = "/status",
    largest_bytes: int = _LARGEST_BYTES,
) -> Fetch:
    """`Fetch` over HTTP."""

    async def fetch(address: str) -> bytes:
        url = f"http://{url_host(address)}:{port}{path}"
        async with session.get(url, allow_redirects=False) as response:
            response.raise_for_status()
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > largest_bytes:
                    raise aiohttp.ClientPayloadError(f"more than {largest_bytes} bytes")
            return bytes(body)

    return fetch


def _has_news(pod: Manifest) -> bool:
    return is_leader(pod) and (is_ready(pod) or has_download(pod))


def _first_lost(known: _Known, answer: Polled) -> bool:
    return answer.report is None and known.answer.report is not None and not known.missed


def _news(before: Polled, after: Polled) -> bool:
    if before.report is None or after.report is None:
        return before.error != after.error or (before.report is None) != (after.report is None)
    if before.report.predictor.calibrated != after.report.predictor.calibrated:
        return True
    if secret_errors(before.report) != secret_errors(after.report):
        return True
    return worth_writing(
        {"predictor": predictor_status(before.report), "model": reported_status(before.report)},
        {"predictor": predictor_status(after.report), "model": reported_status(after.report)},
    )
