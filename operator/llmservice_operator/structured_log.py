"""Log lines that say which service they are about, as text or as one JSON object each."""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from llmservice_operator.cluster import ServiceKey

_ABOUT: Final[ContextVar[dict[str, str] | None]] = ContextVar("about", default=None)


@contextmanager
def about(key: ServiceKey) -> Generator[None]:
    """Every line that is logged inside names this service."""
    token = _ABOUT.set({"namespace": key.namespace, "name": key.name})
    try:
        yield
    finally:
        _ABOUT.reset(token)


def learn(**more: str) -> None:
    """Add what is known by now (uid) to the lines that follow about the same service."""
    known = _ABOUT.get()
    if known is not None:
        known.update(more)


class JsonFormatter(logging.Formatter):
    """One JSON object a line.

    time, level, logger, message; namespace, name and uid where a service is meant, reason where
    the line has one, traceback where there is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_subject(record),
        }
        if reason := getattr(record, "reason", ""):
            line["reason"] = str(reason)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


class TextFormatter(logging.Formatter):
    """The same for people: the service in brackets before the message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-8s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line without traceback."""
        subject = _subject(record)
        if subject:
            where = f"{subject.get('namespace', '')}/{subject.get('name', '')}"
            record.message = f"[{where}] {record.message}"
        return super().formatMessage(record)


def _subject(record: logging.LogRecord) -> Mapping[str, str]:
    known = _ABOUT.get()
    if known is not None:
        return known
    key = getattr(record, "about", None)
    if isinstance(key, ServiceKey):
        return {"namespace": key.namespace, "name": key.name}
    # kopf's own lines carry the object that they are about.
    reference: Any = getattr(record, "k8s_ref", None) or {}
    found = {word: reference.get(word) for word in ("namespace", "name", "uid")}
    return {word: str(value) for word, value in found.items() if value}


FORMATTERS: Final = {"text": TextFormatter, "json": JsonFormatter}


def use(log_format: str) -> None:
    """Give every handler of the process that format (a key of FORMATTERS)."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(FORMATTERS[log_format]())
