"""Tells the sidecar how far the delivery is, through a small file in a volume that both see."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Final

import msgspec
from llmservice_api import names
from llmservice_api.status_report import ModelReport

from llmservice_sidecar.fetch.cache import write_whole

_log = logging.getLogger(__name__)

EVERY_S: Final = 2.0


class Progress:
    """Writes the file when it says something new."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / names.PROGRESS_FILE
        self._told: ModelReport | None = None

    def tell(self, report: ModelReport) -> None:
        """Write `report`. What cannot be written is logged: the delivery is worth more."""
        if report == self._told:
            return
        try:
            write_whole(self._path, msgspec.json.encode(report))
        except OSError as error:
            _log.warning("the progress cannot be told in %s: %s", self._path, error)
        self._told = report

    @contextlib.contextmanager
    def following(
        self, look: Callable[[], ModelReport], *, every_s: float = EVERY_S
    ) -> Generator[None]:
        """Tell what `look` sees, now and every `every_s` seconds."""
        over = threading.Event()

        def follow() -> None:
            while True:
                self.tell(look())
                if over.wait(every_s):
                    return

        thread = threading.Thread(target=follow, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
