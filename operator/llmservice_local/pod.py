"""From rendered manifests to two local command lines. Pure: starts nothing, reads no file.

What the operator would put in a pod is taken as it is; only what cannot be the same outside a
container is rewritten: interpreter, paths, ports, and the fields a kubelet would fill in.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from llmservice_api import names
from llmservice_api.sidecar_config import LiveConfig, SecurityConfig, StaticConfig

from llmservice_local.errors import CommandError

Manifest = Mapping[str, Any]  # Kubernetes JSON

LOOPBACK: Final = "127.0.0.1"
_REFERENCE: Final = re.compile(r"\$\((\w+)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPorts:
    """The ports used instead of the pod's; 0 lets the system choose (sidecar only)."""

    engine: int
    http: int = 0
    grpc: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessPlan:
    """One container as a local process."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PodPlan:
    """Both containers and the two configuration files between them."""

    engine: ProcessPlan
    sidecar: ProcessPlan
    static: StaticConfig
    live: LiveConfig
    model_path: str  # where the engine will look for the model on this machine


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalMachine:
    """What this machine puts in the place of the container's own."""

    engine_python: str
    sidecar_python: str
    mounts: Mapping[str, str]  # container path -> path on this machine
    ports: LocalPorts
    environment: Mapping[str, str]  # what secrets are taken from


def plan_pod(manifests: Sequence[Manifest], machine: LocalMachine) -> PodPlan:
    """The local form of the pod that `manifests` describe.

    Raises CommandError for what has no local form: several nodes, absent secrets.
    """
    pod = _pod_spec(manifests)
    engine = _container(pod, names.CONTAINER_ENGINE)
    sidecar = _container(pod, names.CONTAINER_SIDECAR)
    static, live = _configs(manifests, machine)
    engine_plan = _process(engine, machine, python=machine.engine_python, service=static.service)
    arguments = with_port(engine_plan.command, machine.ports.engine)
    return PodPlan(
        engine=ProcessPlan(name="engine", command=arguments, environment=engine_plan.environment),
        sidecar=_process(sidecar, machine, python=machine.sidecar_python, service=static.service),
        static=static,
        live=live,
        model_path=argument(arguments, "--model"),
    )


def map_paths(text: str, mounts: Mapping[str, str]) -> str:
    """`text` with container paths replaced; the longest container path wins."""
    places = {place.rstrip("/"): to.rstrip("/") for place, to in mounts.items()}
    if not places:
        return text
    # One pass, so that what was put in is not replaced again. Not inside a longer word: /models
    # must match neither /data/models nor /models2.
    choices = "|".join(re.escape(place) for place in sorted(places, key=len, reverse=True))
    pattern = rf"(?:(?<![\w/.-])|(?<=file://))({choices})(?=/|$|[\s,:;\"'}}])"
    return re.sub(pattern, lambda found: places[found[1]], text)


def argument(command: Sequence[str], flag: str) -> str:
    """The value of `--flag value` or `--flag=value`. Raises CommandError when it is absent."""
    for index, word in enumerate(command):
        if word == flag and index + 1 < len(command):
            return command[index + 1]
        if word.startswith(f"{flag}="):
            return word.removeprefix(f"{flag}=")
    raise CommandError(
        f"the engine's command line has no {flag}",
        next_step="this is a defect of the rendering: report it with your manifest",
    )


def with_port(command: Sequence[str], port: int) -> tuple[str, ...]:
    """The engine's command line with its port replaced."""
    current = argument(command, "--port")
    words = list(command)
    for index, word in enumerate(words):
        if word == f"--port={current}":
            words[index] = f"--port={port}"
        elif word == current and words[index - 1] == "--port":
            words[index] = str(port)
    return tuple(words)


def _pod_spec(manifests: Sequence[Manifest]) -> Manifest:
    for manifest in manifests:
        if manifest["kind"] == "Deployment":
            return manifest["spec"]["template"]["spec"]
    kinds = ", ".join(sorted({str(manifest["kind"]) for manifest in manifests}))
    raise CommandError(
        f"this service has no Deployment to run here (it renders {kinds})",
        next_step="set spec.parallelism.nodes to 1 and spec.suspend to false",
    )


def _container(pod: Manifest, name: str) -> Manifest:
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        if container["name"] == name:
            return container
    raise CommandError(
        f"the rendered pod has no container {name!r}",
        next_step="check that spec.template does not remove it",
    )


def _configs(
    manifests: Sequence[Manifest], machine: LocalMachine
) -> tuple[StaticConfig, LiveConfig]:
    for manifest in manifests:
        if manifest["kind"] == "ConfigMap" and names.STATIC_CONFIG_FILE in manifest["data"]:
            data = manifest["data"]
            break
    else:
        raise CommandError(
            f"no rendered ConfigMap holds {names.STATIC_CONFIG_FILE}",
            next_step="this is a defect of the rendering: report it with your manifest",
        )
    static = msgspec.json.decode(data[names.STATIC_CONFIG_FILE], type=StaticConfig)
    listen = msgspec.structs.replace(
        static.listen,
        host=LOOPBACK,
        http_port=machine.ports.http,
        grpc_port=machine.ports.grpc,
        ops_port=0,
        admin_port=0,
    )
    url = f"http://{LOOPBACK}:{machine.ports.engine}"
    engine = msgspec.structs.replace(static.engine, url=url)
    # What it learns ends with the process: no volume is there to keep it, no replica to ask.
    predictor = msgspec.structs.replace(static.predictor, keep=None)
    if predictor.uri is not None:
        uri = map_paths(predictor.uri, machine.mounts)
        predictor = msgspec.structs.replace(predictor, uri=uri)
    live = msgspec.json.decode(data[names.LIVE_CONFIG_FILE], type=LiveConfig)
    static = msgspec.structs.replace(
        static,
        listen=listen,
        engine=engine,
        predictor=predictor,
        security=_security(static.security, machine.mounts),
    )
    return static, live


def _security(config: SecurityConfig, mounts: Mapping[str, str]) -> SecurityConfig:
    """The Secrets' directories here. Raises CommandError for one that is nowhere mounted."""
    fields = {"apiKeySecretRef": config.api_keys_dir, "tlsSecretRef": config.tls_dir}
    for field, directory in fields.items():
        if directory is not None and map_paths(directory, mounts) == directory:
            raise CommandError(
                f"spec.security.{field} names a Secret, and there is none here",
                next_step=f"--mount {directory}=DIR with its entries as files, or remove the field",
            )
    here = {key: directory and map_paths(directory, mounts) for key, directory in fields.items()}
    return SecurityConfig(api_keys_dir=here["apiKeySecretRef"], tls_dir=here["tlsSecretRef"])


def _process(
    container: Manifest, machine: LocalMachine, *, python: str, service: str
) -> ProcessPlan:
    environment = {
        entry["name"]: map_paths(_value(entry, machine, service=service), machine.mounts)
        for entry in container.get("env", ())
    }
    words = [*container["command"], *container.get("args", ())]
    words = [
        map_paths(_REFERENCE.sub(lambda m: environment.get(m[1], m[0]), word), machine.mounts)
        for word in words
    ]
    if words[0] in {"python", "python3"}:
        words[0] = python
    return ProcessPlan(name=container["name"], command=tuple(words), environment=environment)


def _value(entry: Manifest, machine: LocalMachine, *, service: str) -> str:
    if "valueFrom" not in entry:
        return str(entry.get("value", ""))
    source = entry["valueFrom"]
    if "fieldRef" in source:
        return _field(source["fieldRef"]["fieldPath"], service=service)
    name = entry["name"]
    if name in machine.environment:
        return machine.environment[name]
    reference: Manifest = source.get("secretKeyRef") or source.get("configMapKeyRef") or {}
    if reference.get("optional"):
        return ""
    raise CommandError(
        f"{name} comes from a cluster object ({reference.get('name', 'unknown')}) "
        "that does not exist here",
        next_step=f"set {name} in your environment",
    )


def _field(path: str, *, service: str) -> str:
    known = {
        "metadata.name": f"{service}-local",
        "metadata.namespace": "default",
        "metadata.uid": f"{service}-local",
        "status.podIP": LOOPBACK,
        "status.hostIP": LOOPBACK,
        "spec.nodeName": socket.gethostname(),
        "spec.serviceAccountName": service,
    }
    return known.get(path, "")
