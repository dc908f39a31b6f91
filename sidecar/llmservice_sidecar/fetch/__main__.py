"""`python -m llmservice_sidecar.fetch`: bring a model and its adapters, then end.

The last line on standard error says why it failed; Kubernetes shows it as the container's last
words.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from llmservice_api import names
from llmservice_api.status_report import ModelReport

from llmservice_sidecar.adapters.structured_log import configure_logging
from llmservice_sidecar.fetch.delivery import Delivery, Manner
from llmservice_sidecar.fetch.errors import Exit, FetchError, disk_error
from llmservice_sidecar.fetch.lease import STALE_S
from llmservice_sidecar.fetch.progress import Progress
from llmservice_sidecar.fetch.sources import Source

_log = logging.getLogger("llmservice_sidecar.fetch")

# Set before the hub's library is imported, which reads them once.
_HUB_ENVIRONMENT: Final = {
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and deliver. Returns the exit status (`errors.Exit`)."""
    given = parser().parse_args(arguments)
    configure_logging()
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # signed addresses are in its lines
    os.environ.update(_HUB_ENVIRONMENT)
    out: Path = given.out
    progress = Progress(out)
    try:
        deliver(given, progress=progress, environ=os.environ)
    except FetchError as error:
        progress.tell(ModelReport(phase="Failed", message=str(error)))
        sys.stderr.write(f"{error}\n")
        return int(error.status)
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m llmservice_sidecar.fetch", description=__doc__)
    made.add_argument(
        "--get",
        action="append",
        required=True,
        metavar="NAME=URI",
        help="deliver hf://org/name or s3://bucket/key; OUT/NAME then leads to it (repeatable)",
    )
    made.add_argument("--revision", help="branch, tag or commit of an hf:// model (default: main)")
    made.add_argument("--cache", type=Path, required=True, help="directory that replicas may share")
    made.add_argument("--out", type=Path, required=True, help="directory of links and progress")
    made.add_argument(
        "--pin",
        default="default",
        help="who asks with the same pin gets the same state of a moving branch",
    )
    made.add_argument(
        "--stale-seconds",
        type=float,
        default=STALE_S,
        help="after this long a silent download of another replica is taken over "
        "(default: %(default)s)",
    )
    return made


def deliver(given: argparse.Namespace, *, progress: Progress, environ: Mapping[str, str]) -> None:
    """Do what a parsed command line asks for. Raises FetchError."""
    manner = Manner(
        cache=given.cache,
        pin=given.pin,
        holder=environ.get("POD_NAME") or f"{socket.gethostname()}-{os.getpid()}",
        stale_s=given.stale_seconds,
    )
    wanted = [_parse(text) for text in given.get]
    deliveries: dict[str, Delivery] = {}
    for name, uri in wanted:
        revision = given.revision if name == names.MODEL_LINK else None
        deliveries[name] = Delivery(_source(uri, revision=revision, environ=environ), manner)
    # All are asked first: what is wrong shows before gigabytes are moved, and the sum is known.
    for delivery in deliveries.values():
        delivery.prepare()
    parts = list(deliveries.values())
    model = deliveries.get(names.MODEL_LINK)
    revision = "" if model is None else model.commit
    with progress.following(lambda: _report("Downloading", parts, revision=revision)):
        for delivery in parts:
            delivery.run()
    for name, delivery in deliveries.items():
        _link(given.out / name, delivery.directory)
    progress.tell(_report("Ready", parts, revision=revision))
    _log.info("delivered %s", ", ".join(f"{name} at {d.commit}" for name, d in deliveries.items()))


def _report(phase: str, parts: Sequence[Delivery], *, revision: str) -> ModelReport:
    owners = sorted({part.waits_for for part in parts if part.waits_for})
    return ModelReport(
        phase=phase,
        bytes=sum(part.present_bytes for part in parts),
        total_bytes=sum(part.total_bytes for part in parts),
        revision=revision,
        message=f"replica {owners[0]} downloads for all" if owners else "",
    )


def _parse(text: str) -> tuple[str, str]:
    name, separator, uri = text.partition("=")
    if not name or not separator or "/" in name:
        raise FetchError(f"--get {text!r}: expected NAME=URI", status=Exit.USAGE)
    return name, uri


def _source(uri: str, *, revision: str | None, environ: Mapping[str, str]) -> Source:
    # Imported when needed: each library takes a while, and one of them is enough.
    if uri.startswith("hf://"):
        from llmservice_sidecar.fetch.hub import HubSource  # noqa: PLC0415

        token, endpoint = environ.get("HF_TOKEN"), environ.get("HF_ENDPOINT")
        return HubSource(uri, revision=revision, token=token, endpoint=endpoint)
    if uri.startswith("s3://"):
        from llmservice_sidecar.fetch.s3 import S3Source  # noqa: PLC0415

        return S3Source(uri, environ=environ)
    raise FetchError(f"{uri}: expected hf://org/name or s3://bucket/key", status=Exit.USAGE)


def _link(link: Path, to: Path) -> None:
    """Make or replace a symbolic link, at once. Raises FetchError."""
    made = link.with_name(f".{link.name}.new")
    try:
        made.unlink(missing_ok=True)
        made.symlink_to(to)
        made.replace(link)
    except OSError as error:
        raise disk_error(error, link) from error


def _end(number: int, _: object) -> None:
    # Threads wait for the network: what is on disk is taken up by the next attempt as it is.
    os._exit(128 + number)


if __name__ == "__main__":
    # The first process of a container gets no signal that it has no handler for.
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main())
