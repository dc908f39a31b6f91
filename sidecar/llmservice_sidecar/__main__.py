"""`python -m llmservice_sidecar --config-dir DIR`: run a sidecar until a signal ends it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import uvloop
from llmservice_api import names
from llmservice_api.sidecar_config import ConfigError

from llmservice_sidecar.adapters.structured_log import configure_logging
from llmservice_sidecar.app import run


def main() -> int:
    """Parse the command line and serve. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="llmservice_sidecar", description=__doc__)
    parser.add_argument(
        "--config-dir",
        type=Path,
        default=Path(names.CONFIG_DIR),
        help=f"directory of {names.STATIC_CONFIG_FILE} and {names.LIVE_CONFIG_FILE} "
        "(default: %(default)s)",
    )
    arguments = parser.parse_args()
    configure_logging()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(arguments.config_dir))
    except (ConfigError, OSError, ValueError) as error:
        sys.stderr.write(f"llmservice_sidecar: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
