"""`python -m llmservice_operator`: run the operator until SIGTERM.

Run exactly one (a Deployment of one replica with strategy Recreate).
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from typing import Final

import kopf
from llmservice_api import __version__, names

from llmservice_operator.handlers import registry_for
from llmservice_operator.operator_process import OperatorProcess
from llmservice_operator.service import Images
from llmservice_operator.settings import OperatorSettings, default_images

_LOG_FORMATS: Final = {"text": kopf.LogFormat.FULL, "json": kopf.LogFormat.JSON}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and serve."""
    given = parser().parse_args(arguments)
    settings = settings_of(given)
    # kopf asks for the user's name, and a numeric user has no passwd entry.
    os.environ.setdefault("LOGNAME", "llmservice")
    port = settings.liveness_port
    kopf.configure(verbose=given.verbose, log_format=_LOG_FORMATS[given.log_format])
    if not given.verbose:
        # One line for every event that only names a service.
        logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    kopf.run(
        registry=registry_for(OperatorProcess(settings), settings),
        standalone=True,
        clusterwide=not settings.namespaces,
        namespaces=settings.namespaces,
        liveness_endpoint=None if port is None else f"http://0.0.0.0:{port}/healthz",
    )


def parser() -> argparse.ArgumentParser:
    """The command line."""
    images = default_images()
    made = argparse.ArgumentParser(
        prog="python -m llmservice_operator",
        description="Operator of LLMService objects. Run exactly one: two would fight.",
    )
    made.add_argument("--version", action="version", version=__version__)
    made.add_argument(
        "--namespace",
        action="append",
        default=[],
        help="watch this namespace only (repeatable); without it the whole cluster",
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
    made.add_argument(
        "--liveness-port", type=int, default=8080, help="0: none (default: %(default)s)"
    )
    made.add_argument(
        "--http-port",
        type=int,
        default=names.PORT_OPERATOR,
        help="port of /backlog, for autoscalers; 0: none (default: %(default)s)",
    )
    made.add_argument(
        "--backlog-url",
        help="where KEDA reaches /backlog of this operator; without it no ScaledObject is made",
    )
    made.add_argument(
        "--log-format", choices=tuple(_LOG_FORMATS), default="text", help="default: %(default)s"
    )
    made.add_argument("--verbose", action="store_true", help="log every event")
    return made


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
        namespaces=tuple(given.namespace),
        liveness_port=given.liveness_port or None,
        http_port=given.http_port or None,
        backlog_url=given.backlog_url,
    )


if __name__ == "__main__":
    main()
