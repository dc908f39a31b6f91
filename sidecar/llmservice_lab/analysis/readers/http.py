"""JSON from a trace store over HTTP, with errors that say what to do."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

_TIMEOUT_S: Final = 30.0
_QUOTED: Final = 200  # characters of an error page


class StoreError(ValueError):
    """The trace store did not answer as it should; the message names the address and the answer."""


@dataclass(frozen=True, slots=True)
class Store:
    """A trace store's address; `headers` are sent with every request (a tenant, a token)."""

    base: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def get(self, path: str, **query: str | float) -> bytes:
        """The body of an answer 200. Raises StoreError."""
        url = f"{self.base.rstrip('/')}{path}"
        if query:
            url = f"{url}?{urllib.parse.urlencode(query)}"
        headers = {"Accept": "application/json", **self.headers}
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - http(s), checked by readers.store_of
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - as above
                return answer.read()
        except urllib.error.HTTPError as error:
            with error:
                text = error.read(_QUOTED).decode(errors="replace").strip()
            raise StoreError(f"{url} answered HTTP {error.code}: {text}") from error
        except (OSError, ValueError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise StoreError(f"{url} cannot be reached: {reason}") from error
