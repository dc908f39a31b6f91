"""A model hub with the real one's API, for the real client library: standard library only.

Answers what `huggingface_hub` asks to list and to download: model info, tree, resolve with commit,
ETag and size headers, a redirect of large files to another host, ranges, the errors' headers.
`python hub_server.py --root DIR` serves DIR/org/name/... as public repositories.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from fakes.hub_repositories import LARGE_BYTES, Faults, Repository, entry, git_id

_CHUNK = 16 * 1024
_INFO = re.compile(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?")
_TREE = re.compile(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)")
_RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


class Hub:
    """A running hub. `served` counts the bytes of each path, `asked` the requests."""

    def __init__(
        self, repositories: dict[str, Repository], *, host: str, port: int, cdn_url: str = ""
    ) -> None:
        self.repositories = repositories
        self.faults = Faults()
        self.served: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.leaked: list[str] = []  # tokens that reached the other host
        self._cdn = self._server(_Cdn, host, urlsplit(cdn_url).port or 0)
        self._hub = self._server(_Hub, host, port)
        self.cdn_url = cdn_url or self._url(self._cdn, host)
        self.url = self._url(self._hub, host)

    def find(self, repository: str, revision: str, path: str) -> bytes | None:
        """A file's content."""
        found = self.repositories.get(repository)
        commit = found.find(revision) if found else None
        return found.commits[commit].get(path) if found and commit else None

    def close(self) -> None:
        """Stop serving."""
        for server in (self._hub, self._cdn):
            server.shutdown()
            server.server_close()

    def _server(self, handler: type[_Handler], host: str, port: int) -> ThreadingHTTPServer:
        kind = type(handler.__name__, (handler,), {"hub": self})
        server = ThreadingHTTPServer((host, port), kind)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def _url(self, server: ThreadingHTTPServer, host: str) -> str:
        # Two names of one address: a token must not follow from one to the other.
        name = "localhost" if server is self._cdn and host == "127.0.0.1" else host
        return f"http://{name}:{server.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Quiet."""

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        raise NotImplementedError

    def refuse(self, status: int, code: str = "", message: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        if message:
            self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send_file(self, content: bytes, headers: dict[str, str], *, path: str, body: bool) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first = int(wanted[1]) if wanted else 0
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        for name, value in {**headers, "Content-Length": str(len(content) - first)}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self._send(content[first:], path)

    def _send(self, content: bytes, path: str) -> None:
        faults, at = self.hub.faults, 0
        cut_after = faults.cut_after.pop(0) if faults.cut_after and len(content) > _CHUNK else None
        while at < len(content):
            if cut_after is not None and at >= cut_after:
                self.close_connection = True
                self.connection.close()
                return
            held = 0 < faults.hold_at <= at
            chunk = content[at : at + (1 if held else _CHUNK)]
            try:
                self.wfile.write(chunk)
            except OSError:
                self.close_connection = True
                return  # the client was killed
            at += len(chunk)
            self.hub.served[path] += len(chunk)
            if held:
                time.sleep(0.05)


class _Cdn(_Handler):
    """The host of large files: it must never see a token."""

    def answer(self, *, body: bool) -> None:
        if token := self.headers.get("Authorization"):
            self.hub.leaked.append(token)
        found = _RESOLVE.fullmatch(unquote(urlsplit(self.path).path))
        content = self.hub.find(found[1], found[2], found[3]) if found else None
        if found is None or content is None:
            self.refuse(404)
            return
        if found[3] in self.hub.faults.spoilt:
            content = bytes(len(content))
        self.send_file(content, {"ETag": '"x"'}, path=found[3], body=body)


class _Hub(_Handler):
    """The API, and small files."""

    def answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked[path] += 1
        if self.hub.faults.unavailable > 0:
            self.hub.faults.unavailable -= 1
            self.refuse(503)
        elif found := _TREE.fullmatch(path):
            self._tree(found[1], found[2])
        elif found := _INFO.fullmatch(path):
            self._info(found[1], found[2] or "main")
        elif found := _RESOLVE.fullmatch(path):
            self._resolve(found[1], found[2], found[3], body=body)
        else:
            self.refuse(404)

    def _open(self, name: str, revision: str) -> tuple[Repository, str] | None:
        """The repository and the commit, or an answer that says why not."""
        repository = self.hub.repositories.get(name)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        known = {found.token for found in self.hub.repositories.values()}
        if token and token not in known:
            self.refuse(401, message="Invalid credentials in Authorization header")
        elif repository is None or (repository.token not in {None, token} and not repository.gated):
            # As the real one: who may not see it is told that it does not exist.
            self.refuse(404 if token else 401, "RepoNotFound", "Repository not found")
        elif repository.token not in {None, token}:
            self.refuse(403 if token else 401, "GatedRepo", "Access to this model is restricted")
        elif (commit := repository.find(revision)) is None:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return repository, commit
        return None

    def _info(self, name: str, revision: str) -> None:
        if opened := self._open(name, revision):
            repository, commit = opened
            siblings = [{"rfilename": path} for path in repository.commits[commit]]
            self._json({"id": name, "modelId": name, "sha": commit, "siblings": siblings})

    def _tree(self, name: str, revision: str) -> None:
        if opened := self._open(name, revision):
            repository, commit = opened
            files = repository.commits[commit]
            self._json([entry(path, files[path]) for path in sorted(files)])

    def _resolve(self, name: str, revision: str, path: str, *, body: bool) -> None:
        opened = self._open(name, revision)
        if opened is None:
            return
        repository, commit = opened
        content = repository.commits[commit].get(path)
        if content is None:
            self.refuse(404, "EntryNotFound", "Entry not found")
            return
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if len(content) < LARGE_BYTES:
            headers["ETag"] = f'"{git_id(content)}"'
            self.send_file(content, headers, path=path, body=body)
            return
        self.send_response(302)
        headers |= {
            "X-Linked-Size": str(len(content)),
            "X-Linked-ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "Location": f"{self.hub.cdn_url}/{name}/resolve/{commit}/{path}",
            "Content-Length": "0",
        }
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()

    def _json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def hub(
    repositories: dict[str, Repository],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    cdn_url: str = "",
) -> Generator[Hub]:
    """A hub for the length of the block. `cdn_url`: where clients find the host of large files."""
    running = Hub(repositories, host=host, port=port, cdn_url=cdn_url)
    try:
        yield running
    finally:
        running.close()


def _from_disk(root: Path) -> dict[str, Repository]:
    found: dict[str, Repository] = {}
    for folder in sorted(path for path in root.glob("*/*") if path.is_dir()):
        files = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        found["/".join(folder.parts[-2:])] = Repository.of(files)
    return found


def main() -> None:
    """Serve a directory until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--cdn-url", default="", help="as clients see it; its port is bound here")
    given = parser.parse_args()
    found = _from_disk(given.root)
    with hub(found, host=given.host, port=given.port, cdn_url=given.cdn_url):
        threading.Event().wait()


if __name__ == "__main__":
    main()
