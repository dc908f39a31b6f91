"""What both doors take from a client beside its request: who it is, how urgent it says it is."""

from __future__ import annotations

import hashlib
import re
import uuid
from typing import Final

from llmservice_sidecar.core.request import RequestId

MAX_TENANT_CHARS: Final = 128
# Ids go into logs, traces and the engine's own ids: nothing that could be taken for something else.
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:@/+=-]{1,128}")


def request_id_of(given: str | None) -> RequestId:
    """The client's id if it is a fit one, else a new one."""
    return RequestId(given if given and _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex)


def tenant_of(given: str | None) -> str | None:
    """The tenant by a name of at most 128 printable ASCII characters; None: it names none.

    A longer or other name becomes its SHA-256: cut off, two tenants could be taken for one.
    """
    if not given:
        return None
    if len(given) <= MAX_TENANT_CHARS and given.isascii() and given.isprintable():
        return given
    digest = hashlib.sha256(given.encode("utf-8", "surrogateescape")).hexdigest()
    return f"sha256:{digest}"
