"""`python -m llmservice_sidecar.activator`: hold requests for services at zero replicas."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

import uvloop

from llmservice_sidecar.activator.app import ActivatorSettings, run
from llmservice_sidecar.activator.hold import HoldLimits
from llmservice_sidecar.adapters.structured_log import configure_logging


def parser() -> argparse.ArgumentParser:
    """The command line."""
    defaults = ActivatorSettings(operator_url="")
    limits = defaults.limits
    made = argparse.ArgumentParser(prog="llmservice_sidecar.activator", description=__doc__)
    made.add_argument(
        "--operator-url",
        required=True,
        help="where the operator tells of services: http://NAME.NAMESPACE.svc:8081",
    )
    made.add_argument(
        "--host", default=defaults.host, help="address to listen on (default: %(default)s)"
    )
    made.add_argument(
        "--ops-port",
        type=int,
        default=defaults.ops_port,
        help="port of probes, metrics and status (default: %(default)s)",
    )
    made.add_argument(
        "--max-held-requests",
        type=_positive,
        default=limits.max_held,
        help="requests that may wait for one service (default: %(default)s)",
    )
    made.add_argument(
        "--max-hold-seconds",
        type=_positive,
        default=int(limits.hold_s),
        help="how long a request may wait (default: %(default)s)",
    )
    made.add_argument(
        "--max-held-bytes",
        type=_positive,
        default=limits.max_bytes,
        help="memory for the requests of all services together (default: %(default)s)",
    )
    made.add_argument(
        "--drain-timeout-seconds",
        type=_positive,
        default=int(defaults.drain_timeout_s),
        help="how long held requests are waited for after SIGTERM (default: %(default)s)",
    )
    return made


def settings_of(given: argparse.Namespace) -> ActivatorSettings:
    """The settings that a parsed command line asks for."""
    return ActivatorSettings(
        operator_url=str(given.operator_url).rstrip("/"),
        host=given.host,
        ops_port=given.ops_port,
        limits=HoldLimits(
            max_held=given.max_held_requests,
            hold_s=float(given.max_hold_seconds),
            max_bytes=given.max_held_bytes,
        ),
        drain_timeout_s=float(given.drain_timeout_seconds),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and serve. Returns the exit status."""
    settings = settings_of(parser().parse_args(arguments))
    configure_logging()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(settings))
    except OSError as error:
        sys.stderr.write(f"llmservice_sidecar.activator: {error}\n")
        return 1
    return 0


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a whole number from 1 up")
    return value


if __name__ == "__main__":
    sys.exit(main())
