"""The page: one well-formed file without a network, of bounded size, that a keyboard can use."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import msgspec
from fakes.traced import Load, requests_of
from llmservice_lab.analysis.document import analyse
from llmservice_lab.analysis.page import render
from llmservice_lab.analysis.page_parts import LISTED, WORST
from llmservice_lab.analysis.record import Reading, Told, TracedRequest

REQUESTS = requests_of(Load(count=1200, utilisation=1.2))
VOID = {"meta", "link", "br"}


def page(requests: list[TracedRequest], *, told: Told | None = None) -> str:
    return render(analyse(Reading(source="spans.jsonl", requests=requests, told=told or Told())))


class Structure(HTMLParser):
    """Tags in order; fails at a tag that is closed out of turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_the_page_is_well_formed_and_asks_for_nothing() -> None:
    text = page(REQUESTS)
    found = Structure(text)
    assert not re.search(r"(?:https?:)?//[a-z]", text)
    assert "@import" not in text
    assert [one.get("href") for one in found.all("link")] == ["data:,"]
    assert "prefers-color-scheme: dark" in text


def test_every_picture_has_a_name_and_comes_before_the_tables() -> None:
    text = page(REQUESTS)
    pictures = Structure(text).all("svg")
    assert len(pictures) == 7
    assert all(one["role"] == "img" and one["aria-label"] for one in pictures)
    assert text.rindex("<svg") < text.index('<table id="slow"')


def test_what_opens_and_what_sorts_is_reached_by_the_keyboard() -> None:
    found = Structure(page(REQUESTS))
    assert len(found.all("details")) == len(found.all("summary")) >= WORST
    assert len(found.all("button")) == 11
    assert not [one for _, one in found.found if "onclick" in one]


def test_ten_times_the_requests_make_no_larger_page() -> None:
    many = [
        msgspec.structs.replace(one, request_id=f"{one.request_id}-{copy}")
        for one in REQUESTS
        for copy in range(10)
    ]
    text = page(many)
    assert len(text) < 300_000
    assert text.count("<tr>") < LISTED + 8 * WORST * 2 + 100


def test_names_that_clients_choose_are_text() -> None:
    nasty = "<script>alert(1)</script>\"'&"
    odd = [
        msgspec.structs.replace(one, tenant=nasty, request_id=nasty, model=nasty)
        for one in REQUESTS[:300]
    ]
    text = page(odd)
    Structure(text)
    assert "<script>alert" not in text


def test_what_could_not_be_read_is_said_at_the_top() -> None:
    told = Told(spans=10, broken_spans=2, examples=["line 7 is no OTLP/JSON"], incomplete=1)
    text = page(REQUESTS, told=told)
    assert text.index("2 spans could not be read: line 7") < text.index("<svg")
    assert "1 requests lack the span of the door" in text


def test_traces_that_are_there_for_their_end_are_said_at_the_top() -> None:
    slow = [msgspec.structs.replace(one, sampled_by="slow") for one in REQUESTS[:7]]
    text = page([*slow, *REQUESTS[7:]])
    said = f"7 of {len(REQUESTS)} traces were kept because the request was slow or failed"
    assert text.index(said) < text.index("<svg")
    assert "were kept because" not in page(REQUESTS)


def test_one_request_makes_a_page() -> None:
    Structure(page(REQUESTS[:1]))
