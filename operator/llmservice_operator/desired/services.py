"""The two Services: one address for all replicas, and a headless one with an address for each."""

from __future__ import annotations

from llmservice_api import names

from llmservice_operator.desired.metadata import leader_selector, metadata
from llmservice_operator.desired.secrets import has_tls
from llmservice_operator.kube_json import Manifest
from llmservice_operator.service import Service


def cluster_service(service: Service) -> Manifest:
    """`<name>`: the ClusterIP behind `status.url`."""
    tls = has_tls(service)
    ports = [
        {
            "name": "http",
            "port": names.PORT_HTTP,
            "targetPort": "http",
            "protocol": "TCP",
            "appProtocol": "https" if tls else "http",
        },
        {
            "name": "grpc",
            "port": names.PORT_GRPC,
            "targetPort": "grpc",
            "protocol": "TCP",
            "appProtocol": "https" if tls else "kubernetes.io/h2c",
        },
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(service, service.name),
        "spec": {"type": "ClusterIP", "selector": leader_selector(service), "ports": ports},
    }


def headless_service(service: Service) -> Manifest:
    """`<name>-headless`: the address of every ready replica.

    Only of ready ones: clients that balance by themselves take each address for one that serves,
    and a model may load for twenty minutes.
    """
    ports = [
        {"name": "http", "port": names.PORT_HTTP, "targetPort": "http", "protocol": "TCP"},
        {"name": "grpc", "port": names.PORT_GRPC, "targetPort": "grpc", "protocol": "TCP"},
        {"name": "ops", "port": names.PORT_OPS, "targetPort": "ops", "protocol": "TCP"},
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(service, f"{service.name}-headless"),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "selector": leader_selector(service),
            "ports": ports,
        },
    }
