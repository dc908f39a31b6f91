"""The activator as the Service's endpoint: an EndpointSlice beside those that Kubernetes makes."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import NamedTuple

from llmservice_api import names

from llmservice_operator.desired.metadata import metadata
from llmservice_operator.kinds import ENDPOINT_SLICE
from llmservice_operator.kube_json import Manifest, entries
from llmservice_operator.service import Service


class ActivatorPorts(NamedTuple):
    """The activator's ports that are one service's own."""

    http: int
    grpc: int


def may_sleep(service: Service) -> bool:
    """Whether the service can be at zero replicas and be woken by a request.

    Not behind TLS: its key is for its replicas alone, so nobody else can read the requests.
    """
    spec = service.spec
    if spec.suspend or (spec.security is not None and spec.security.tls_secret_ref is not None):
        return False
    return spec.scaling is not None and spec.scaling.min_replicas == 0


def slice_name(service: Service) -> str:
    """The name of the service's EndpointSlice for the activator."""
    return f"{service.name}-activator"


def activation_slice(
    service: Service, ports: ActivatorPorts, addresses: Sequence[str], *, family: str
) -> Manifest:
    """The EndpointSlice; `family` is IPv4 or IPv6. Without addresses it only records the ports.

    The names of its ports are the Service's: so a connection to the Service's port 8000 becomes
    one to the activator's port for this very service.
    """
    described = metadata(service, slice_name(service))
    described["labels"] |= {
        names.LABEL_SLICE_SERVICE: service.name,
        names.LABEL_SLICE_MANAGER: names.FIELD_MANAGER,
    }
    return {
        "apiVersion": ENDPOINT_SLICE.api_version,
        "kind": ENDPOINT_SLICE.kind,
        "metadata": described,
        "addressType": family,
        "endpoints": [
            {
                "addresses": [address],
                "conditions": {"ready": True, "serving": True, "terminating": False},
            }
            for address in sorted(addresses)
            if family_of(address) == family  # a slice has one, which never changes
        ],
        "ports": [
            {"name": "http", "port": ports.http, "protocol": "TCP", "appProtocol": "http"},
            {
                "name": "grpc",
                "port": ports.grpc,
                "protocol": "TCP",
                "appProtocol": "kubernetes.io/h2c",
            },
        ],
    }


def recorded_ports(found: Manifest | None) -> ActivatorPorts | None:
    """The ports that a live slice records; None when it has no such."""
    by_name = {port.get("name"): port.get("port") for port in entries(found, "ports")}
    http, grpc = by_name.get("http"), by_name.get("grpc")
    if isinstance(http, int) and isinstance(grpc, int):
        return ActivatorPorts(http, grpc)
    return None


def is_stand_in(found: Manifest | None) -> bool:
    """Whether a live slice leads to an activator."""
    return bool(entries(found, "endpoints"))


def family_of(address: str) -> str:
    """The slice's word for the kind of an IP address."""
    return f"IPv{ipaddress.ip_address(address).version}"
