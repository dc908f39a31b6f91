"""The queries of docs/tracing.md, as a reader would copy them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

PAGE: Final = (Path(__file__).parents[2] / "docs" / "tracing.md").read_text(encoding="utf-8")
_LOOK: Final = PAGE.partition("\n## Look at it\n")[2].partition("\n## ")[0]


@dataclass(frozen=True)
class Question:
    """One question of the page and its queries: TraceQL, and paths of Jaeger's API."""

    title: str
    traceql: tuple[str, ...]
    jaeger: tuple[JaegerQuery, ...]


@dataclass(frozen=True)
class JaegerQuery:
    """One call of Jaeger's API."""

    line: str
    path: str
    parameters: dict[str, str]


def questions() -> list[Question]:
    """All of them, in the order of the page."""
    found: list[Question] = []
    for part in re.split(r"^### ", _LOOK, flags=re.MULTILINE)[1:]:
        blocks = re.findall(r"^```(\w+)\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)
        lines = [(kind, line) for kind, text in blocks for line in text.splitlines() if line]
        found.append(
            Question(
                title=part.partition("\n")[0],
                traceql=tuple(line for kind, line in lines if kind == "traceql"),
                jaeger=tuple(_jaeger(line) for kind, line in lines if kind == "bash"),
            )
        )
    return found


def _jaeger(line: str) -> JaegerQuery:
    """`curl -sG URL -d name=value --data-urlencode name=value`; ValueError for all else."""
    program, flags, url, *rest = shlex.split(line)
    options, values = rest[::2], rest[1::2]
    if (program, flags) != ("curl", "-sG") or not {*options} <= {"-d", "--data-urlencode"}:
        raise ValueError(f"{line}: only curl -sG with -d and --data-urlencode is understood here")
    pairs = (value.partition("=") for value in values)
    return JaegerQuery(line, urlsplit(url).path, {name: value for name, _, value in pairs})
