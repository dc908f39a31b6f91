"""`kubectl llmsvc`: the commands about services on a cluster, as a plugin of kubectl."""

from __future__ import annotations

from llmservice_local.cli import program, run
from llmservice_local.commands import queue

_HELP = """Look into the LLMServices of a cluster.

\b
Examples:
  kubectl llmsvc queue chat -n team    who runs, who waits, and why
"""

app = program("kubectl llmsvc", _HELP)


@app.callback()
def _commands() -> None:  # pyright: ignore[reportUnusedFunction] - else one command has no name
    pass


queue.register(app)


def main() -> None:
    """Run the plugin, which kubectl finds as `kubectl-llmsvc` on the PATH."""
    run(app, name="kubectl llmsvc")


if __name__ == "__main__":
    main()
