"""`python -m llmservice_operator`: run the operator until SIGTERM.

Of several that share a Lease one works and the others stand by. It exits with 1 when it cannot go
on, for example because it has lost the Lease.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import kopf
from llmservice_api import __version__, names
from prometheus_client import disable_created_metrics

from llmservice_operator import structured_log
from llmservice_operator.defaults import NO_DEFAULTS, Defaults, DefaultsError, read_defaults
from llmservice_operator.handlers import registry_for
from llmservice_operator.leader_election import Terms
from llmservice_operator.operator_process import OperatorProcess
from llmservice_operator.service import Images
from llmservice_operator.settings import Neighbours, OperatorSettings, default_images


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and serve."""
    given = parser().parse_args(arguments)
    settings = settings_of(given)
    # kopf asks for the user's name, and a numeric user has no passwd entry.
    os.environ.setdefault("LOGNAME", "llmservice")
    port = settings.liveness_port
    kopf.configure(verbose=given.verbose)
    structured_log.use(given.log_format)
    if not given.verbose:
        # One line for every event that only names a service, and for every probe.
        for name in ("kopf.objects", "kopf.activities.probe", "aiohttp.access"):
            logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("kopf._core.reactor.observation").addFilter(_is_news)
    disable_created_metrics()  # a second series for each, which nobody asks for
    process = OperatorProcess(settings)
    kopf.run(
        registry=registry_for(process, settings),
        standalone=True,
        clusterwide=not settings.namespaces,
        namespaces=settings.namespaces,
        liveness_endpoint=None if port is None else f"http://0.0.0.0:{port}/healthz",
    )
    if process.failed:
        sys.exit(1)


def _is_news(record: logging.LogRecord) -> bool:
    """Not that kinds are missing: they are optional, and conditions say where one is needed."""
    return not record.getMessage().startswith("Unresolved resources")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m llmservice_operator",
        description="Operator of LLMService objects. Of several one works: who holds the Lease.",
    )
    made.add_argument("--version", action="version", version=__version__)
    made.add_argument(
        "--namespace",
        action="append",
        default=[],
        help="watch this namespace only (repeatable); without it the whole cluster",
    )
    _add_lease(made)
    _add_rendering(made)
    _add_ports(made)
    _add_neighbours(made)
    made.add_argument(
        "--log-format",
        choices=tuple(structured_log.FORMATTERS),
        default="text",
        help="default: %(default)s",
    )
    made.add_argument("--verbose", action="store_true", help="log every event")
    return made


def _add_lease(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--lease", default=names.FIELD_MANAGER, help="name of the Lease (default: %(default)s)"
    )
    made.add_argument(
        "--lease-namespace",
        help="default: $POD_NAMESPACE, else the first --namespace, else `default`",
    )
    made.add_argument(
        "--lease-seconds",
        type=_lease_seconds,
        default=Terms().duration_s,
        help="after so long without a sign of the holder another takes over (default: %(default)g)",
    )


def _add_rendering(made: argparse.ArgumentParser) -> None:
    images = default_images()
    made.add_argument(
        "--defaults",
        type=_defaults,
        default=NO_DEFAULTS,
        metavar="FILE",
        help="JSON or YAML with engineResources, sidecarResources and tracing for services "
        "that leave them out",
    )
    made.add_argument("--sidecar-image", default=images.sidecar, help="default: %(default)s")
    made.add_argument("--engine-image", default=images.engine, help="default: %(default)s")
    made.add_argument("--engine-cpu-image", default=images.engine_cpu, help="default: %(default)s")
    made.add_argument(
        "--image-pull-policy",
        choices=("Always", "IfNotPresent", "Never"),
        default="IfNotPresent",
        help="pull policy of the pods' containers (default: %(default)s)",
    )


def _add_ports(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--liveness-port", type=int, default=8080, help="0: none (default: %(default)s)"
    )
    made.add_argument(
        "--http-port",
        type=int,
        default=names.PORT_OPERATOR,
        help="port of /metrics and /backlog; 0: none (default: %(default)s)",
    )
    made.add_argument(
        "--backlog-url",
        help="where KEDA reaches /backlog of this operator; without it no ScaledObject is made",
    )


def _add_neighbours(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--activator-selector",
        default="",
        help="labels of the pods that hold requests for services at zero replicas; without it "
        "such requests are refused",
    )
    made.add_argument(
        "--activator-namespace", help="where they are (default: as for --lease-namespace)"
    )
    made.add_argument(
        "--network-policy",
        action="store_true",
        help="make a NetworkPolicy for the pods of every service; the operator's own namespace is "
        "$POD_NAMESPACE",
    )
    made.add_argument(
        "--monitoring-namespace",
        action="append",
        default=[],
        help="with --network-policy: a namespace that may scrape port 9090 (repeatable)",
    )


def settings_of(given: argparse.Namespace) -> OperatorSettings:
    """The settings that a parsed command line asks for."""
    images = Images(
        sidecar=given.sidecar_image,
        engine=given.engine_image,
        engine_cpu=given.engine_cpu_image,
    )
    return OperatorSettings(
        images=images,
        image_pull_policy=given.image_pull_policy,
        defaults=given.defaults,
        namespaces=tuple(given.namespace),
        lease=given.lease,
        lease_namespace=_lease_namespace(given),
        lease_terms=Terms(duration_s=given.lease_seconds),
        liveness_port=given.liveness_port or None,
        http_port=given.http_port or None,
        backlog_url=given.backlog_url,
        neighbours=_neighbours(given),
        activator_selector=given.activator_selector,
        activator_namespace=given.activator_namespace or _lease_namespace(given),
    )


def _neighbours(given: argparse.Namespace) -> Neighbours | None:
    if not given.network_policy:
        return None
    return Neighbours(
        operator_namespace=os.environ.get("POD_NAMESPACE") or "default",
        monitoring_namespaces=tuple(given.monitoring_namespace),
    )


def _lease_namespace(given: argparse.Namespace) -> str:
    watched: Sequence[str] = given.namespace or ("default",)
    return given.lease_namespace or os.environ.get("POD_NAMESPACE") or watched[0]


def _lease_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    # Less and a busy API server, or a pause of this process, would cost the Lease now and then.
    if not 3.0 <= seconds <= 300.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 3 to 300")
    return seconds


def _defaults(path: str) -> Defaults:
    try:
        return read_defaults(Path(path))
    except DefaultsError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    main()
