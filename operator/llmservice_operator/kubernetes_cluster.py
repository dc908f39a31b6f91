"""`Cluster` on the official client's asyncio transport. The one file that knows HTTP paths."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio import client, config
from llmservice_api import names

from llmservice_operator.capabilities import NOTHING_OPTIONAL, Capabilities
from llmservice_operator.cluster import ClusterError, ObjectRef, Refused, ServiceKey, ref_of
from llmservice_operator.kinds import OWNED, PLURALS, POD, Kind
from llmservice_operator.kube_json import Manifest, entries, section

_TIMEOUT_S: Final = 30.0
_WATCH_S: Final = 240  # shorter than the idle timeout of common load balancers
_BROKEN: Final = (aiohttp.ClientError, TimeoutError, OSError)
_CONNECTIONS: Final = 32
_PAGE: Final = 500  # objects in one answer: what a page takes of memory is bounded
_METADATA_ONLY: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class KubernetesCluster:
    """The API server through one connection pool."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api
        self._capabilities = NOTHING_OPTIONAL

    @property
    def capabilities(self) -> Capabilities:
        """The optional kinds that were served when `discover` last asked."""
        return self._capabilities

    async def discover(self) -> bool:
        """Ask which optional kinds are served; whether the answer has changed."""
        optional = [kind for kind in OWNED if kind.optional]
        versions = sorted({kind.api_version for kind in optional})
        answers = await asyncio.gather(
            *(self._call("GET", f"/apis/{version}") for version in versions)
        )
        known = {
            (version, entry.get("name"))
            for version, answer in zip(versions, answers, strict=True)
            for entry in entries(answer, "resources")
        }
        before = self._capabilities
        self._capabilities = Capabilities(
            frozenset(
                (kind.api_version, kind.kind)
                for kind in optional
                if (kind.api_version, kind.plural) in known
            )
        )
        return self._capabilities != before

    async def get(self, ref: ObjectRef) -> Manifest | None:
        """The live object, None when there is none."""
        return await self._call("GET", _path(ref))

    async def pods_of(self, key: ServiceKey) -> Sequence[Manifest]:
        """The pods with the service's label."""
        found = await self.list_selected(
            POD, key.namespace, selector=f"{names.LABEL_NAME}={key.name}"
        )
        # The API server leaves both out of a list's items.
        return [{"apiVersion": POD.api_version, "kind": POD.kind, **item} for item in found]

    async def apply(
        self,
        manifest: Manifest,
        *,
        subresource: str = "",
        manager: str = names.FIELD_MANAGER,
    ) -> Manifest:
        """Server-side apply; conflicts are ours to win, because the fields are ours."""
        path = "/".join(filter(None, (_path(ref_of(manifest)), subresource)))
        query = [("fieldManager", manager), ("force", "true")]
        live = await self._call("PATCH", path, query=query, body=manifest)
        return _found(live, manifest)

    async def delete(self, ref: ObjectRef, *, uid: str) -> None:
        """Delete that very object; a successor of the same name stays."""
        body = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        await self._call("DELETE", _path(ref), body=body)

    async def served(self) -> bool:
        """Whether the API server knows LLMServices: the CRD is installed."""
        found = await self._call("GET", f"/apis/{names.API_VERSION}")
        return any(entry.get("name") == names.PLURAL for entry in entries(found, "resources"))

    async def create(self, manifest: Manifest) -> Manifest:
        """Make it; Refused with reason AlreadyExists when there is one."""
        made = await self._call("POST", _path(ref_of(manifest)._replace(name="")), body=manifest)
        return _found(made, manifest)

    async def replace(self, manifest: Manifest) -> Manifest:
        """Write it over that very version; Refused with reason Conflict when it has changed."""
        return _found(await self._call("PUT", _path(ref_of(manifest)), body=manifest), manifest)

    async def list_services(self, namespace: str) -> AsyncGenerator[Manifest]:
        """Metadata of every LLMService in the namespace, in all namespaces when it is empty."""
        where = f"/namespaces/{namespace}" if namespace else ""
        path = f"/apis/{names.API_VERSION}{where}/{names.PLURAL}"
        more = ""
        while True:
            query = [("limit", str(_PAGE)), *([("continue", more)] if more else [])]
            page = await self._call("GET", path, query=query, accept=_METADATA_ONLY)
            for item in entries(page, "items"):
                # A list's items carry the kind of their metadata alone.
                yield {**item, "apiVersion": names.API_VERSION, "kind": names.KIND}
            more = section(page, "metadata").get("continue") or ""
            if not more:
                return

    async def list_selected(
        self, kind: Kind, namespace: str, *, selector: str
    ) -> Sequence[Manifest]:
        """What a label selector finds in the namespace, in all when it is empty."""
        path = _collection(kind, namespace)
        found = await self._call("GET", path, query=[("labelSelector", selector)])
        return entries(found, "items")

    async def follow(
        self, kind: Kind, namespace: str, *, selector: str
    ) -> AsyncGenerator[Sequence[Manifest]]:
        """What a label selector finds, now and after every change, for some minutes."""
        path = _collection(kind, namespace)
        query = [("labelSelector", selector)]
        found = await self._call("GET", path, query=query)
        objects = {item["metadata"]["uid"]: item for item in entries(found, "items")}
        yield tuple(objects.values())
        version = section(found, "metadata").get("resourceVersion") or ""
        query += [("watch", "1"), ("timeoutSeconds", str(_WATCH_S)), ("resourceVersion", version)]
        async for event in self._events(path, query):
            changed = event["object"]
            if event["type"] == "ERROR":
                return  # the version is too old: the caller lists again
            objects[changed["metadata"]["uid"]] = changed
            if event["type"] == "DELETED":
                del objects[changed["metadata"]["uid"]]
            yield tuple(objects.values())

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: list[tuple[str, str]] | None = None,
        body: Manifest | None = None,
        accept: str = "application/json",
    ) -> Manifest | None:
        """One call; None for 404."""
        where = f"{method} {path}"
        try:
            response = await self._send(method, path, query=query, body=body, accept=accept)
            text: bytes = await response.read()
        except _BROKEN as error:
            raise ClusterError(f"{where}: {str(error) or type(error).__name__}") from error
        return _answer(response.status, text, where=where)

    async def _events(self, path: str, query: list[tuple[str, str]]) -> AsyncGenerator[Manifest]:
        """The events of a watch until the API server ends it."""
        try:
            answer = await self._send("GET", path, query=query, timeout_s=_WATCH_S + _TIMEOUT_S)
            stream: aiohttp.ClientResponse = answer.response
            try:
                if stream.status != 200:
                    _answer(stream.status, await stream.read(), where=f"watch of {path}")
                buffer = bytearray()
                async for chunk in stream.content.iter_any():
                    buffer += chunk
                    *lines, rest = buffer.split(b"\n")
                    buffer = bytearray(rest)
                    for line in lines:
                        yield json.loads(line)
            finally:
                stream.close()
        except _BROKEN as error:
            raise ClusterError(f"watch of {path}: {str(error) or type(error).__name__}") from error

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: list[tuple[str, str]] | None = None,
        body: Manifest | None = None,
        accept: str = "application/json",
        timeout_s: float = _TIMEOUT_S,
    ) -> Any:
        """The client's own response, whose body is not read yet."""
        patch = method == "PATCH"
        headers = {"Accept": accept}
        headers["Content-Type"] = "application/apply-patch+yaml" if patch else "application/json"
        api = cast("Any", self._api)  # the generated client is untyped
        prepared = await api.param_serialize(
            method, path, query_params=query or [], header_params=headers, body=body,
            auth_settings=["BearerToken"],
        )  # fmt: skip
        return await api.call_api(*prepared, _request_timeout=timeout_s)


@asynccontextmanager
async def connected() -> AsyncGenerator[KubernetesCluster]:
    """The cluster of $KUBECONFIG or ~/.kube/config, inside a pod the one it runs in.

    Raises ClusterError when neither names a cluster.
    """
    settings = client.Configuration()
    load = cast("Any", config)  # untyped
    # Read here: the client's own default is made when it is imported.
    given = os.environ.get("KUBECONFIG")
    try:
        if given is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            load.load_incluster_config(client_configuration=settings)
        else:
            await load.load_kube_config(config_file=given, client_configuration=settings)
    except config.ConfigException as error:
        raise ClusterError(
            f"no cluster to work for: {error}; set KUBECONFIG, or run in a pod with a token"
        ) from error
    settings.connection_pool_maxsize = _CONNECTIONS
    settings.proxy = settings.proxy or _proxy_of_environment(settings.host)
    # Else aiohttp asks the environment before each call, in a thread, twice: half of its time.
    settings.client_session_kwargs = {"trust_env": False}
    async with client.ApiClient(settings) as api:
        yield KubernetesCluster(api)


def _proxy_of_environment(url: str) -> str | None:
    parts = urlsplit(url)
    bypassed = proxy_bypass(parts.hostname or "")
    return None if bypassed else getproxies().get(parts.scheme)


def _found(live: Manifest | None, manifest: Manifest) -> Manifest:
    if live is None:
        raise Refused("NotFound", f"{manifest['kind']} {manifest['metadata']['name']} is gone")
    return live


def _collection(kind: Kind, namespace: str) -> str:
    return _path(ObjectRef(kind.api_version, kind.kind, namespace, ""))


def _path(ref: ObjectRef) -> str:
    plural = PLURALS[ref.api_version, ref.kind]
    root = "api" if "/" not in ref.api_version else "apis"
    where = f"namespaces/{ref.namespace}/" if ref.namespace else ""
    path = f"/{root}/{ref.api_version}/{where}{plural}"
    return f"{path}/{ref.name}" if ref.name else path


def _answer(status: int, text: bytes, *, where: str) -> Manifest | None:
    if status == 404:
        return None
    if status >= 500 or status == 429:
        raise ClusterError(f"{where}: HTTP {status}: {text[:500].decode(errors='replace')}")
    try:
        body: Manifest = json.loads(text)
    except ValueError as error:
        raise ClusterError(f"{where}: HTTP {status} without JSON") from error
    if status >= 400:
        raise Refused(body.get("reason") or str(status), body.get("message") or where)
    return body
