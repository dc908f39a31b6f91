"""The queues of a service's pods on a cluster: found by label, asked through port forwarding."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.stream import WsApiClient
from llmservice_api import names
from llmservice_operator.kube_json import Manifest, condition, entries, section
from llmservice_operator.pods import is_leader

from llmservice_local.errors import CommandError
from llmservice_local.port_forward import ForwardError, forwarded_get
from llmservice_local.queue_sources import ANSWER_WITHIN_S, Replica, queue_path, replica_of, silent

_RIGHTS: Final = "docs/cli.md#queue has the ClusterRole that this needs"
_AT_ONCE: Final = 16  # port forwardings
_API_WITHIN_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Clients:
    """The official client twice: for calls, and for port forwarding."""

    plain: client.ApiClient
    websocket: WsApiClient


class ClusterSource:
    """The pods of one LLMService; each has `within_s` seconds to answer."""

    def __init__(self, clients: Clients, *, service: str, namespace: str, within_s: float) -> None:
        self._ws = clients.websocket
        self._api = cast("Any", clients.plain)  # the generated client is untyped
        self._service = service
        self._namespace = namespace
        self._within_s = within_s
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def read(self, rows: int) -> Sequence[Replica]:
        """Every running pod's answer. Raises CommandError when there is no pod to ask."""
        pods = [
            pod["metadata"]["name"]
            for pod in await self._pods()
            if is_leader(pod) and section(pod, "status").get("phase") == "Running"
        ]
        if not pods:
            raise await self._nobody()
        return await asyncio.gather(*(self._ask(name, rows) for name in sorted(pods)))

    async def _pods(self) -> Sequence[Manifest]:
        query = [("labelSelector", f"{names.LABEL_NAME}={self._service}")]
        path = f"/api/v1/namespaces/{self._namespace}/pods"
        status, found = await self._get(path, query)
        if status in {401, 403}:
            raise CommandError(
                f"no right to list pods in namespace {self._namespace}: {_message(found)}",
                next_step=_RIGHTS,
            )
        if status != 200:
            raise CommandError(
                f"the API server answered {status} for {path}: {_message(found)}",
                next_step="`kubectl get pods` with the same context says more",
            )
        return entries(found, "items")

    async def _nobody(self) -> CommandError:
        """Why there is no pod to ask, as far as it can be told."""
        service, namespace = self._service, self._namespace
        path = f"/apis/{names.API_VERSION}/namespaces/{namespace}/{names.PLURAL}/{service}"
        status, found = await self._get(path, [])
        if status == 404:
            return CommandError(
                f"there is no LLMService {service} in namespace {namespace}",
                next_step="`kubectl get llmsvc -A` lists them; -n names a namespace",
            )
        why = f"no pod of LLMService {service} in namespace {namespace} runs"
        ready = condition(found, "Ready") if status == 200 else {}
        if said := ready.get("message") or ready.get("reason"):
            why += f": {said}"
        return CommandError(
            why, next_step=f"kubectl describe -n {namespace} llmsvc {service} tells what is missing"
        )

    async def _ask(self, pod: str, rows: int) -> Replica:
        try:
            async with self._room, asyncio.timeout(self._within_s):
                status, body = await forwarded_get(
                    self._ws,
                    namespace=self._namespace,
                    pod=pod,
                    port=names.PORT_ADMIN,
                    path=queue_path(rows),
                )
        except TimeoutError:
            return silent(pod, self._within_s)
        except aiohttp.WSServerHandshakeError as error:
            if error.status in {401, 403}:
                text = f"no right to forward ports of pods ({error.status}); {_RIGHTS}"
                return Replica(name=pod, error=text, forbidden=True)
            text = f"the API server answered {error.status} to port forwarding"
            return Replica(name=pod, error=text)
        except (ForwardError, aiohttp.ClientError, OSError) as error:
            return Replica(name=pod, error=str(error) or type(error).__name__)
        return replica_of(pod, status, body)

    async def _get(self, path: str, query: list[tuple[str, str]]) -> tuple[int, Manifest]:
        try:
            prepared = await self._api.param_serialize(
                "GET",
                path,
                query_params=query,
                header_params={"Accept": "application/json"},
                auth_settings=["BearerToken"],
            )
            response = await self._api.call_api(*prepared, _request_timeout=_API_WITHIN_S)
            text: bytes = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            host = self._api.configuration.host
            raise CommandError(
                f"cannot reach the API server {host}: {str(error) or 'no answer'}",
                next_step="--context and --kubeconfig choose a cluster; does `kubectl` work?",
            ) from error
        try:
            return response.status, json.loads(text)
        except ValueError:
            return response.status, {"message": text[:200].decode(errors="replace")}


@asynccontextmanager
async def cluster_source(
    service: str,
    *,
    namespace: str | None,
    context: str | None,
    kubeconfig: str | None,
    within_s: float = ANSWER_WITHIN_S,
) -> AsyncGenerator[ClusterSource]:
    """Connect; `namespace` None: the context's own. Raises CommandError without a cluster."""
    settings = client.Configuration()
    load = cast("Any", config)  # untyped
    path = kubeconfig or os.environ.get("KUBECONFIG") or None
    try:
        await load.load_kube_config(
            config_file=path, context=context, client_configuration=settings, persist_config=False
        )
        if namespace is None:
            namespace = _context_namespace(path, context)
    except (config.ConfigException, OSError) as error:
        raise CommandError(
            f"no cluster to ask: kubeconfig {path or '~/.kube/config'}: {error}",
            next_step="--kubeconfig and --context name one; --url asks a sidecar without a cluster",
        ) from error
    async with client.ApiClient(settings) as api, WsApiClient(settings) as ws:
        clients = Clients(api, ws)
        yield ClusterSource(clients, service=service, namespace=namespace, within_s=within_s)


def _context_namespace(path: str | None, context: str | None) -> str:
    contexts, current = cast("Any", config).list_kube_config_contexts(config_file=path)
    chosen = next((one for one in contexts if one["name"] == context), current)
    return chosen["context"].get("namespace") or "default"


def _message(answer: Manifest) -> str:
    return str(answer.get("message") or "no reason was told")
