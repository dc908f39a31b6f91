"""What operator and activator tell each other about services that may sleep at zero replicas.

The operator streams lines of JSON, each an `Update`; the activator answers `GET :9090/status` with
an `ActivatorReport`.
"""

from __future__ import annotations

import msgspec

ACTIVATOR_REPORT_VERSION = 1


class Replica(msgspec.Struct, frozen=True):
    """Where the doors of one ready replica are, each as `address:port`."""

    http: str
    grpc: str


class Activation(msgspec.Struct, frozen=True, kw_only=True, tag="set", tag_field="update"):
    """A service that may sleep: the activator's ports that are its own, and who is ready.

    `models` are the names that clients may ask for: the model's own first, then its adapters'.
    """

    namespace: str
    name: str
    http_port: int
    grpc_port: int
    models: tuple[str, ...] = ()
    replicas: tuple[Replica, ...] = ()


class Removed(msgspec.Struct, frozen=True, kw_only=True, tag="remove", tag_field="update"):
    """A service that does not sleep any more, or is gone."""

    namespace: str
    name: str


class Synced(msgspec.Struct, frozen=True, tag="synced", tag_field="update"):
    """Every service has been told of once: one that was not named since the start is gone."""


class Beat(msgspec.Struct, frozen=True, tag="beat", tag_field="update"):
    """Nothing has changed; the connection is alive."""


Update = Activation | Removed | Synced | Beat


class ActivatorReport(msgspec.Struct, frozen=True, kw_only=True):
    """One activator's state. `held`: waiting requests by `namespace/name`, no zeros.

    `synced`: it has heard of every service since it started.
    """

    version: int = ACTIVATOR_REPORT_VERSION
    synced: bool
    draining: bool = False
    held: dict[str, int] = {}
    held_bytes: int = 0


def decode_update(line: bytes) -> Update:
    """One line of the stream. Raises msgspec.DecodeError."""
    return msgspec.json.decode(line, type=Update)


def decode_activator_report(payload: bytes) -> ActivatorReport:
    """Parse a report. Raises msgspec.DecodeError with the JSON path of what is wrong."""
    report = msgspec.json.decode(payload, type=ActivatorReport)
    if report.version != ACTIVATOR_REPORT_VERSION:
        raise msgspec.ValidationError(
            f"activator report version {report.version} is not supported; "
            f"supported: {ACTIVATOR_REPORT_VERSION}"
        )
    return report
