"""Makes tables of the chart's values from the comments in values.yaml. Knows no Helm."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

_TITLE: Final = "## "


class UndocumentedError(ValueError):
    """A key without a comment, by its path and line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One row: the dotted path, the default as JSON (None for a group of keys) and the text."""

    path: str
    line: int  # from 0
    default: str | None
    text: str


def describe(source: str) -> str:
    """Markdown: for each `## Title` of values.yaml a heading and a table of the keys below it.

    Raises UndocumentedError for a key without a comment, and where no title comes first.
    """
    lines = source.splitlines()
    root = yaml.compose(source, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise UndocumentedError("values.yaml: expected a mapping at its top")
    titles = {number: line for number, line in enumerate(lines) if line.startswith(_TITLE)}
    parts: list[str] = []
    for value in values_of(root, lines):
        for number in [number for number in titles if number < value.line]:
            title = titles.pop(number).removeprefix(_TITLE)
            parts.append(f"\n### {title}\n\n| Key | Default | Meaning |\n|---|---|---|")
        if not parts:
            raise UndocumentedError(f"{value.path}: expected a line '## Title' above the first key")
        shown = "" if value.default is None else f"`{value.default}`"
        parts.append(f"| `{value.path}` | {shown} | {value.text} |")
    return "\n".join(parts).strip() + "\n"


def values_of(
    node: yaml.MappingNode, lines: Sequence[str], *, above: tuple[str, ...] = ()
) -> Iterator[Value]:
    """Every key that a comment describes, in the order of the file."""
    for key, value in node.value:
        path = (*above, str(key.value))
        name = ".".join(path)
        line = key.start_mark.line
        text = _comment(lines, line, indent=key.start_mark.column)
        if isinstance(value, yaml.MappingNode) and _describes(value, lines):
            if text:
                yield Value(path=name, line=line, default=None, text=text)
            yield from values_of(value, lines, above=path)
            continue
        if not text:
            raise UndocumentedError(f"values.yaml:{line + 1}: {name} has no comment above it")
        default = json.dumps(_plain(value)).replace("|", "\\|")
        yield Value(path=name, line=line, default=default, text=text)


def _describes(node: yaml.MappingNode, lines: Sequence[str]) -> bool:
    """Does any key below have a comment? Otherwise the whole mapping is one value."""
    return any(
        _comment(lines, key.start_mark.line, indent=key.start_mark.column)
        or (isinstance(value, yaml.MappingNode) and _describes(value, lines))
        for key, value in node.value
    )


def _comment(lines: Sequence[str], line: int, *, indent: int) -> str:
    """The comment lines right above a key, joined."""
    found: list[str] = []
    start = " " * indent + "# "
    for above in reversed(lines[:line]):
        if not above.startswith(start):
            break
        found.append(above.removeprefix(start).strip())
    return " ".join(reversed(found))


def _plain(node: yaml.Node) -> Any:
    maker = yaml.SafeLoader("")
    return maker.construct_object(node, deep=True)  # pyright: ignore[reportUnknownMemberType] - Any
