"""From an LLMService file to a local plan: render as the operator does, put this machine in."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import yaml
from llmservice_api import names
from llmservice_api.spec import SpecError
from llmservice_lab.engine.environment import EngineEnvironmentError, ensure_engine_python
from llmservice_lab.engine.process import SIDECAR_SOURCES
from llmservice_lab.engine.tiny_model import ensure_tiny_model
from llmservice_operator.desired import desired
from llmservice_operator.service import parse_service
from llmservice_operator.settings import OperatorSettings

from llmservice_local.errors import CommandError
from llmservice_local.pod import LOOPBACK, LocalMachine, LocalPorts, PodPlan, plan_pod

Document = dict[str, Any]  # the YAML as read

ENGINE_MODULES: Final = SIDECAR_SOURCES
TINY_MODEL: Final = "/models/tiny"
_SCRATCH: Final = "/tmp"  # noqa: S108 - the path inside the container, an emptyDir


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalOptions:
    """How a service is run here. Port 0: the system chooses."""

    directory: Path  # configuration, logs, scratch space
    mounts: Mapping[str, str] = field(default_factory=dict[str, str])
    http_port: int = 0
    grpc_port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalService:
    """A planned service and how long it may take to start, in seconds."""

    name: str
    plan: PodPlan
    start_timeout_s: float


def read_document(path: Path) -> Document:
    """The one LLMService in a YAML file. Raises CommandError."""
    try:
        documents = cast("list[object]", list(yaml.safe_load_all(path.read_text())))
    except OSError as error:
        raise CommandError(
            f"cannot read {path}: {error.strerror}", next_step="name an LLMService file with -f"
        ) from error
    except yaml.YAMLError as error:
        raise CommandError(f"{path} is not YAML: {error}", next_step="correct the file") from error
    read = [cast("Document", one) for one in documents if isinstance(one, dict)]
    services = [one for one in read if one.get("kind") == names.KIND]
    if len(services) != 1:
        raise CommandError(
            f"{path} holds {len(services)} LLMServices; one is needed",
            next_step="put one service into a file of its own",
        )
    return services[0]


def plan_service(
    document: Document, options: LocalOptions, *, log: Callable[[str], None]
) -> LocalService:
    """Render, make what is missing (engine environment, tiny model), and plan the processes.

    Raises CommandError for what is wrong in the file or cannot run on this machine.
    """
    try:
        service = parse_service(document)
        manifests = desired(service, OperatorSettings())
    except SpecError as error:
        raise CommandError(
            str(error), next_step="see `kubectl explain llmservice.spec` or crds/llmservice.yaml"
        ) from error
    try:
        python = ensure_engine_python(log=log)
    except EngineEnvironmentError as error:
        raise CommandError(str(error), next_step="then run the command again") from error
    mounts = dict(options.mounts)
    if service.spec.model.uri == f"file://{TINY_MODEL}" and not _mounted(TINY_MODEL, mounts):
        mounts[TINY_MODEL] = str(ensure_tiny_model(python))
    scratch = options.directory / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    machine = LocalMachine(
        engine_python=str(python),
        sidecar_python=sys.executable,
        mounts={
            _SCRATCH: str(scratch),
            names.CONFIG_DIR: str(options.directory / "config"),
            **mounts,
        },
        ports=LocalPorts(engine=_free_port(), http=options.http_port, grpc=options.grpc_port),
        environment=os.environ,
    )
    plan = plan_pod(manifests, machine)
    _require_model(plan.model_path, uri=service.spec.model.uri)
    return LocalService(
        name=service.name,
        plan=plan,
        start_timeout_s=float(service.spec.engine.startup_timeout_seconds),
    )


def parse_mounts(given: list[str]) -> dict[str, str]:
    """`/container/path=host/path` pairs. Raises CommandError."""
    mounts: dict[str, str] = {}
    for text in given:
        inside, equals, outside = text.partition("=")
        if not equals or not inside.startswith("/"):
            raise CommandError(
                f"--mount {text!r} is not /CONTAINER/PATH=DIR",
                next_step="write it like --mount /models=/data/models",
            )
        place = Path(outside).expanduser().resolve()
        if not place.exists():
            raise CommandError(
                f"--mount {text}: {place} does not exist", next_step="name an existing directory"
            )
        mounts[inside] = str(place)
    return mounts


def _mounted(path: str, mounts: Mapping[str, str]) -> bool:
    return any(path == place or path.startswith(f"{place}/") for place in mounts)


def _require_model(path: str, *, uri: str) -> None:
    if path.startswith("/") and not Path(path).exists():
        raise CommandError(
            f"the model {uri} is at {path} in the container, which does not exist here",
            next_step=f"map it: --mount {Path(path).parent}=DIRECTORY",
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
