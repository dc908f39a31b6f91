"""What a service should be in the cluster, as a value. Pure: reads no clock, draws no name."""

from __future__ import annotations

from dataclasses import replace

from llmservice_operator.capabilities import NOTHING_OPTIONAL, Capabilities
from llmservice_operator.desired.autoscaler import autoscaler
from llmservice_operator.desired.config import config_map
from llmservice_operator.desired.deployment import deployment
from llmservice_operator.desired.leader_worker_set import leader_worker_set
from llmservice_operator.desired.model_fetch import cache_claims
from llmservice_operator.desired.model_source import supported
from llmservice_operator.desired.network_policy import network_policy
from llmservice_operator.desired.optional import optional_objects
from llmservice_operator.desired.policies import disruption_budget, service_account
from llmservice_operator.desired.services import cluster_service, headless_service
from llmservice_operator.kinds import DEPLOYMENT, LEADER_WORKER_SET, Kind
from llmservice_operator.kube_json import Manifest
from llmservice_operator.service import Service, rendering
from llmservice_operator.settings import OperatorSettings

__all__ = ["desired", "workload_kind", "workload_possible"]


def workload_possible(service: Service, capabilities: Capabilities) -> bool:
    """Whether the service's pods can be made at all, in this version and this cluster."""
    return supported(service) and capabilities.serves(workload_kind(service))


def workload_kind(service: Service) -> Kind:
    """What makes the service's pods."""
    return DEPLOYMENT if service.spec.parallelism.nodes == 1 else LEADER_WORKER_SET


def desired(
    service: Service,
    settings: OperatorSettings,
    capabilities: Capabilities = NOTHING_OPTIONAL,
) -> tuple[Manifest, ...]:
    """Every object the service should own, in the order in which to apply them.

    Objects of an optional kind are made only where `capabilities` has it. Raises SpecError when
    `spec.template` cannot be laid over the pod.
    """
    rendered = rendering(service, settings.images, settings.defaults)
    service = replace(service, spec=rendered.defaults.completed(service.spec))
    addresses = (cluster_service(service), headless_service(service))
    if not workload_possible(service, capabilities):
        # The addresses stay: whoever resolves them need not care why nobody answers yet.
        return addresses
    make = deployment if workload_kind(service) is DEPLOYMENT else leader_worker_set
    workload = make(service, rendered=rendered, pull_policy=settings.image_pull_policy)
    scaler = autoscaler(service, workload, settings, capabilities)
    return (
        service_account(service),
        config_map(service),
        *cache_claims(service),
        *addresses,
        disruption_budget(service),
        workload,
        *([scaler] if scaler else ()),
        *optional_objects(service, capabilities),
        *_shield(service, settings),
    )


def _shield(service: Service, settings: OperatorSettings) -> tuple[Manifest, ...]:
    if settings.neighbours is None:
        return ()
    return (network_policy(service, settings.neighbours),)
