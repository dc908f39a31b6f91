"""S3 and what speaks its protocol: all objects under a key are one repository.

Credentials come from the environment, as AWS's own programs take them: keys, a web identity
(IRSA), a container's or an instance's role. A credentials file in a variable goes before them.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import obstore
from obstore.exceptions import (
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from llmservice_sidecar.fetch.errors import Exit, FetchError
from llmservice_sidecar.fetch.sources import Listing, RemoteFile, chosen

if TYPE_CHECKING:
    from obstore import ObjectMeta

CREDENTIALS_VARIABLE: Final = "LLMSERVICE_S3_CREDENTIALS"
_REFUSED: Final = (PermissionDeniedError, UnauthenticatedError)
_STATUS: Final = re.compile(r"status code: (\d{3})")
_CHUNK_BYTES: Final = 8 * 1024 * 1024
_FIELDS: Final = {  # of a credentials file, and what the store calls them
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
    "region": "region",
    "endpoint_url": "endpoint",
}


class S3Source:
    """`s3://bucket/key`: what lies under the key, as it is now.

    Raises FetchError when the credentials cannot be read.
    """

    def __init__(self, uri: str, *, environ: Mapping[str, str] = os.environ) -> None:
        self.uri = uri.rstrip("/")
        bucket, _, key = self.uri.removeprefix("s3://").partition("/")
        self._prefix = key.strip("/")
        name = self._prefix.rpartition("/")[2] or bucket
        told = hashlib.sha256(f"{_endpoint(environ)} {bucket} {self._prefix}".encode()).hexdigest()
        self.place = f"s3/{name}--{told[:12]}"
        self.commit: str | None = None  # objects can be written over
        self._store = _store(bucket, environ)

    def list(self, commit: str | None) -> Listing:
        """The objects now; `commit` of the answer is a digest of their names, sizes and ETags."""
        del commit  # what was there before is no longer to be had
        try:
            pages: Any = cast("Any", obstore).list(self._store, self._prefix)
            objects: list[ObjectMeta] = [meta for page in pages for meta in page]
        except (BaseError, OSError, ValueError) as error:
            raise self._refusal(error) from error
        if not objects:
            text = f"{self.uri}: there are no objects under this key"
            raise FetchError(text, status=Exit.NOT_FOUND)
        files = [
            RemoteFile(
                path=meta["path"].removeprefix(self._prefix).lstrip("/"),
                size=meta["size"],
                key=meta["path"],
                version=meta["e_tag"] or "",
            )
            for meta in objects
        ]
        taken = chosen(files, uri=self.uri)
        state = "\n".join(f"{file.path} {file.size} {file.version}" for file in taken)
        return Listing(commit=hashlib.sha256(state.encode()).hexdigest()[:40], files=taken)

    def read(self, file: RemoteFile, to: BinaryIO, *, offset: int) -> None:
        """The rest of an object that has not been written over since it was listed."""
        options: dict[str, Any] = {"range": {"offset": offset}} if offset else {}
        if file.version:
            options["if_match"] = file.version
        try:
            answer = obstore.get(self._store, file.key, options=cast("Any", options))
            chunks = answer.stream(_CHUNK_BYTES)
        except (BaseError, OSError, ValueError) as error:
            raise self._refusal(error) from error
        while (chunk := self._next(chunks)) is not None:
            to.write(chunk)

    def _next(self, chunks: Any) -> Any:
        try:
            return next(chunks, None)
        except (BaseError, OSError, ValueError) as error:
            raise self._refusal(error) from error

    def _refusal(self, error: Exception) -> FetchError:
        if isinstance(error, PreconditionError):
            text = f"{self.uri}: an object was written over while it was being read"
            return FetchError(text, status=Exit.UNREACHABLE, again=True)
        # The store knows classes for single objects only; of a listing it gives the whole answer.
        told = _STATUS.search(str(error))
        status = int(told[1]) if told else 0
        if isinstance(error, _REFUSED) or status in {401, 403}:
            why = _code(error) or "access denied"
            text = (
                f"{self.uri}: the credentials are refused ({why}); see spec.model.tokenSecretRef "
                "and the role of the pod's service account"
            )
            return FetchError(text, status=Exit.NOT_ALLOWED)
        if isinstance(error, FileNotFoundError) or status == 404:
            text = f"{self.uri}: there is no such bucket or object"
            return FetchError(text, status=Exit.NOT_FOUND)
        if 300 <= status < 500:
            text = f"{self.uri}: the store answers {status} {_code(error)}: check AWS_REGION"
            return FetchError(text, status=Exit.USAGE)
        if "169.254." in str(error):
            text = f"{self.uri}: there are no credentials: set spec.model.tokenSecretRef, or give "
            text += "the pod's service account a role"
            return FetchError(text, status=Exit.NOT_ALLOWED)
        return FetchError(f"{self.uri}: {_first_line(error)}", status=Exit.UNREACHABLE, again=True)


def _store(bucket: str, environ: Mapping[str, str]) -> S3Store:
    config = _credentials(environ.get(CREDENTIALS_VARIABLE, ""))
    endpoint = config.get("endpoint") or _endpoint(environ)
    if endpoint:
        config["endpoint"] = endpoint
    return S3Store(
        bucket,
        config=cast("Any", config),
        client_options={
            "allow_http": endpoint.startswith("http://"),
            "timeout": timedelta(days=1),  # of a whole object; silence is bounded by the next
            "read_timeout": timedelta(seconds=60),
            "connect_timeout": timedelta(seconds=10),
        },
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=60)},
    )


def _endpoint(environ: Mapping[str, str]) -> str:
    return environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or ""


def _credentials(text: str) -> dict[str, str]:
    """The first profile of a credentials file, by the store's names; nothing for no file."""
    if not text.strip():
        return {}
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
        section = parser["default"] if "default" in parser else parser[parser.sections()[0]]
    except (configparser.Error, IndexError) as error:
        raise FetchError(
            "spec.model.tokenSecretRef: for s3:// the value must be a credentials file "
            "([default], aws_access_key_id = ..., aws_secret_access_key = ...)",
            status=Exit.USAGE,
        ) from error
    return {ours: section[theirs] for theirs, ours in _FIELDS.items() if theirs in section}


def _code(error: Exception) -> str:
    """The S3 error code in an answer."""
    found = re.search(r"<Code>(\w+)</Code>", str(error))
    return found[1] if found else ""


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
