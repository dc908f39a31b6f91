"""What sidecars say of the Secrets that guard their doors."""

from __future__ import annotations

from llmservice_api.status_report import StatusReport

from llmservice_operator.observed import Observed


def secret_errors(report: StatusReport) -> tuple[str, ...]:
    """What of its Secrets a replica does not use, by field of the spec."""
    told = {
        "spec.security.apiKeySecretRef": report.security.api_keys_error,
        "spec.security.tlsSecretRef": report.security.tls_error,
    }
    return tuple(f"{field}: {error}" for field, error in told.items() if error)


def secret_remark(observed: Observed) -> str:
    """The first replica with such errors, and what they are; empty if there is none."""
    for pod in sorted(observed.pods, key=lambda pod: str(pod["metadata"]["name"])):
        report = observed.report_of(pod)
        if report is not None and (errors := secret_errors(report)):
            return f"replica {pod['metadata']['name']}: {'; '.join(errors)}"
    return ""
