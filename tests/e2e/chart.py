"""The operator's chart as a Helm release in the cluster."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import helm_python as helm
import yaml
from e2e.kube import Kube

CHART: Final = Path(__file__).parents[2] / "charts" / "llmservice"
# Never the name under which somebody has really installed it.
RELEASE: Final = "llmservice-e2e"
# What a failed run leaves must not keep the next one from starting: the definition goes, too.
VALUES: Final[dict[str, Any]] = {"crds": {"keep": False}}
_TIMEOUT_S: Final = 180


@dataclass
class Release:
    """The installed chart. `values` are those of the last install or upgrade."""

    config: helm.Config
    namespace: str
    values: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def user(self) -> str:
        """The operator as the API server knows it."""
        return f"system:serviceaccount:{self.namespace}:{RELEASE}"

    def pods(self, kube: Kube) -> frozenset[str]:
        """The names of the operator's pods."""
        selector = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component=operator"
        found = kube.items("pods", "-n", self.namespace, "-l", selector)
        return frozenset(name.removeprefix("pod/") for name in found)

    @property
    def revision(self) -> int:
        """The number of the revision that is deployed."""
        return int(self.config.history(RELEASE)[-1]["revision"])

    def install(self, values: dict[str, Any] | None = None) -> None:
        """Install it and wait until the operator is ready."""
        self.values = _merged(values)
        self.config.install(
            CHART,
            RELEASE,
            self.values,
            namespace=self.namespace,
            wait="watcher",
            timeout=_TIMEOUT_S,
        )

    def upgrade(self, values: dict[str, Any] | None = None) -> None:
        """Upgrade it to these values and wait until the operator is ready."""
        self.values = _merged(values)
        self.config.upgrade(
            CHART,
            RELEASE,
            self.values,
            namespace=self.namespace,
            wait="watcher",
            timeout=_TIMEOUT_S,
            max_history=0,
        )

    def rollback(self, revision: int) -> None:
        """Roll back to a revision and wait until the operator is ready."""
        self.config.rollback(RELEASE, version=revision, wait="watcher", timeout=_TIMEOUT_S)

    def uninstall(self) -> None:
        """Uninstall it, if it is installed."""
        self.config.uninstall(RELEASE, ignore_not_found=True, wait="watcher", timeout=_TIMEOUT_S)

    def manifests(self) -> list[dict[str, Any]]:
        """Everything that is rendered with the present values."""
        with helm.Chart.load(CHART) as chart:
            rendered = chart.render(self.values, name=RELEASE, namespace=self.namespace)
        texts = [text for path, text in sorted(rendered.items()) if path.endswith(".yaml")]
        return [item for text in texts for item in yaml.safe_load_all(text) if item]


def _merged(values: dict[str, Any] | None) -> dict[str, Any]:
    merged = copy.deepcopy(VALUES)
    for key, value in (values or {}).items():
        merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
    return merged
