"""A model hub that speaks the Hugging Face Hub's API, through its own client library."""

from __future__ import annotations

import re
from typing import Any, BinaryIO, Final, cast
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import (
    http_get,  # pyright: ignore[reportUnknownVariableType] - of the bar it could draw
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import (
    build_hf_headers,  # pyright: ignore[reportUnknownVariableType] - of an argument not used here
)

from llmservice_sidecar.fetch.errors import Exit, FetchError
from llmservice_sidecar.fetch.sources import Listing, RemoteFile, chosen

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_UNSURE: Final = {408, 425, 429}  # and 5xx: another attempt may succeed


class HubSource:
    """`hf://org/name` at a branch, a tag or a commit. `token` is sent to the hub's host alone.

    `endpoint` is the hub's address, by default the public one's.
    """

    def __init__(
        self, uri: str, *, revision: str | None, token: str | None, endpoint: str | None
    ) -> None:
        self.uri = uri
        self._repository = uri.removeprefix("hf://").strip("/")
        self._revision = revision or constants.DEFAULT_REVISION
        self._token = token
        self._api = HfApi(endpoint, token=token or False, library_name="llmservice")
        self.place = "hf/" + self._repository.replace("/", "--")
        self.commit = self._revision if _COMMIT.fullmatch(self._revision) else None
        self._at = self._revision

    def list(self, commit: str | None) -> Listing:
        """The files at `commit`; None: where the revision points now. Raises FetchError."""
        self._at = commit or self._revision
        try:
            sha = commit or self._api.model_info(self._repository, revision=self._revision).sha
            if not sha:
                raise FetchError(f"{self.uri}: the hub tells no commit", status=Exit.UNREACHABLE)
            tree = self._api.list_repo_tree(self._repository, recursive=True, revision=sha)
            files = [_file(entry) for entry in tree if isinstance(entry, RepoFile)]
        except (HfHubHTTPError, HFValidationError, httpx2.HTTPError) as error:
            raise self._refusal(error) from error
        self._at = sha
        return Listing(commit=sha, files=chosen(files, uri=self.uri))

    def read(self, file: RemoteFile, to: BinaryIO, *, offset: int) -> None:
        """The rest of a file; what comes to an end too early is asked for again.

        Raises FetchError, and OSError when it cannot be written.
        """
        if offset == 0 and file.size > constants.MAX_HTTP_DOWNLOAD_SIZE:
            limit = constants.MAX_HTTP_DOWNLOAD_SIZE // 10**9
            text = f"{self.uri}: {file.path} is larger than the {limit} GB that a hub serves"
            raise FetchError(text, status=Exit.USAGE)
        url = hf_hub_url(
            self._repository, file.path, revision=self._at, endpoint=self._api.endpoint
        )
        try:
            http_get(
                url,
                to,
                resume_size=offset,
                headers=build_hf_headers(token=self._token or False, library_name="llmservice"),
                expected_size=file.size,
                displayed_filename=file.path,
                tqdm_class=cast("Any", _NoBar),
            )
        except (HfHubHTTPError, httpx2.HTTPError) as error:
            raise self._refusal(error) from error
        except OSError as error:
            if error.errno is not None:
                raise  # the disk's, not the hub's: the library says with one that too little came
            text = f"{self.uri}: {file.path} came to an end too early"
            raise FetchError(text, status=Exit.UNREACHABLE, again=True) from error

    def _refusal(self, error: Exception) -> FetchError:
        hub = urlsplit(self._api.endpoint or "").netloc
        if isinstance(error, GatedRepoError):
            why = "must have been granted access" if self._token else "is needed"
            text = f"{self.uri} is gated: the token {why} on {hub} (spec.model.tokenSecretRef)"
            return FetchError(text, status=Exit.NOT_ALLOWED)
        if isinstance(error, RevisionNotFoundError):
            text = f"{self.uri}: {hub} has no revision {self._at!r} (spec.model.revision)"
            return FetchError(text, status=Exit.NOT_FOUND)
        if isinstance(error, RepositoryNotFoundError):
            why = "may not read it" if self._token else "is needed (spec.model.tokenSecretRef)"
            text = f"{self.uri}: {hub} shows no such model: it does not exist, or the token {why}"
            return FetchError(text, status=Exit.NOT_FOUND)
        if isinstance(error, HFValidationError):
            return FetchError(f"{self.uri}: {error}", status=Exit.USAGE)
        return self._failure(error, hub)

    def _failure(self, error: Exception, hub: str) -> FetchError:
        if not isinstance(error, HfHubHTTPError):
            text = f"{self.uri}: {hub} cannot be reached: {error or type(error).__name__}"
            return FetchError(text, status=Exit.UNREACHABLE, again=True)
        status = error.response.status_code
        if status in {401, 403}:
            text = f"{self.uri}: {hub} refuses the token of spec.model.tokenSecretRef ({status})"
            return FetchError(text, status=Exit.NOT_ALLOWED)
        if status == 404:
            return FetchError(f"{self.uri}: {hub} answers 404", status=Exit.NOT_FOUND)
        again = status in _UNSURE or status >= 500
        text = f"{self.uri}: {hub} answers {status}"
        return FetchError(text, status=Exit.UNREACHABLE, again=again)


def _file(entry: RepoFile) -> RemoteFile:
    digest = f"sha256:{entry.lfs.sha256}" if entry.lfs else f"git:{entry.blob_id}"
    return RemoteFile(path=entry.path, size=entry.size, digest=digest)


class _NoBar:
    """Progress is read from the disk; the library wants to draw it."""

    def __init__(self, **_: object) -> None: ...

    def __enter__(self) -> _NoBar:
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, n: float = 1) -> None:
        """A chunk came; nobody draws it."""
