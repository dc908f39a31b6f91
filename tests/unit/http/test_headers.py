"""What both doors take from a client beside its request."""

from __future__ import annotations

import pytest
from llmservice_sidecar.adapters.client_hints import (
    MAX_TENANT_CHARS,
    request_id_of,
    tenant_of,
)
from llmservice_sidecar.adapters.http_headers import call_context
from llmservice_sidecar.core.errors import InvalidRequest
from llmservice_sidecar.core.request import RequestId
from multidict import CIMultiDict


def test_a_name_is_kept_up_to_its_bound() -> None:
    assert tenant_of("search") == "search"
    assert tenant_of("a" * MAX_TENANT_CHARS) == "a" * MAX_TENANT_CHARS


@pytest.mark.parametrize("given", [None, ""], ids=["absent", "empty"])
def test_no_name_is_no_tenant(given: str | None) -> None:
    assert tenant_of(given) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [("a" * 129, "a" * 128 + "b"), ("größe", "grösse"), ("\udcff", "\udcfe"), ("a\tb", "a\rb")],
    ids=["too long", "not ASCII", "not even text", "not printable"],
)
def test_unfit_names_become_short_ones_that_differ(one: str, other: str) -> None:
    made = tenant_of(one)
    assert made is not None
    assert made.startswith("sha256:")
    assert len(made) <= MAX_TENANT_CHARS
    assert made.isascii()
    assert made == tenant_of(one) != tenant_of(other)


@pytest.mark.parametrize("given", ["r1", "a/b:c@d+e=f._-", "a" * 128])
def test_a_fit_request_id_is_kept(given: str) -> None:
    assert request_id_of(given) == given


@pytest.mark.parametrize("given", [None, "", "tell me more", "a\nb", "größe", "a" * 129])
def test_any_other_request_id_is_made_anew(given: str | None) -> None:
    made = request_id_of(given)
    assert made not in {given, request_id_of(given)}
    assert request_id_of(made) == made


def test_headers_say_priority_and_deadline() -> None:
    headers = CIMultiDict({"X-LLMService-Priority": "batch", "x-request-timeout-ms": "1500"})
    context = call_context(headers, request_id=RequestId("a"), tenant="search")
    assert (context.tenant, context.priority, context.timeout_s) == ("search", "batch", 1.5)


def test_absent_headers_say_nothing() -> None:
    context = call_context(CIMultiDict(), request_id=RequestId("a"), tenant=None)
    assert (context.tenant, context.priority, context.timeout_s) == (None, None, None)


@pytest.mark.parametrize("given", ["0", "-1", "1.5", "86400001", "", "1e3"])
def test_a_timeout_that_is_none_is_refused_by_its_name(given: str) -> None:
    headers = CIMultiDict({"x-request-timeout-ms": given})
    with pytest.raises(InvalidRequest, match="from 1 to 86400000") as refused:
        call_context(headers, request_id=RequestId("a"), tenant="search")
    assert refused.value.param == "x-request-timeout-ms"
