"""A load from inside the cluster, as users have it, and what became of its requests."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from e2e.kube import MANIFESTS, Kube

_PROGRAM: Final = Path(__file__).parent / "programs" / "load.py"
_ENDED_WITHIN_S: Final = 180.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The counts of the load so far, by word and by word and door, and examples of what failed."""

    counts: dict[str, int]
    examples: list[str] = field(default_factory=list[str])

    def __getitem__(self, what: str) -> int:
        return self.counts.get(what, 0)


@dataclass(frozen=True, slots=True)
class Load:
    """The pod with the clients of one service."""

    kube: Kube
    namespace: str

    def start(self, service: str, *, image: str) -> None:
        """Start it and wait until its first request is complete."""
        source = f"--from-file=load.py={_PROGRAM}"
        self._kubectl("create", "configmap", "load", source)
        manifest = (MANIFESTS / "load.yaml").read_text(encoding="utf-8")
        for word, value in (
            ("SIDECAR_IMAGE", image),
            ("SERVICE", service),
            ("NAMESPACE", self.namespace),
        ):
            manifest = manifest.replace(word, value)
        self._kubectl("apply", "-f", "-", stdin=manifest.encode())
        self._kubectl("wait", "pod/load", "--for=condition=Ready", "--timeout=90s")
        self.wait_for(1)

    def wait_for(self, completed: int) -> None:
        """Wait until so many requests are complete."""
        self.kube.wait_until(
            f"{completed} requests of the load are complete",
            lambda: self.outcome()["completed"] >= completed,
            timeout_s=300,
            show=f"logs -n {self.namespace} load --tail=30",
        )

    def outcome(self) -> Outcome:
        """The counts now."""
        program = (
            "import pathlib; p = pathlib.Path('/tmp/report.json')\n"
            "print(p.read_text() if p.exists() else '{}')"
        )
        told = json.loads(self._kubectl("exec", "load", "--", "python", "-c", program))
        return Outcome(told.get("counts", {}), told.get("examples", []))

    def end(self) -> Outcome:
        """Let every client finish what it is doing; the final counts."""
        program = (
            "import pathlib, time; pathlib.Path('/tmp/end').touch()\n"
            "p = pathlib.Path('/tmp/report.json')\n"
            "while '\"ended\"' not in p.read_text(): time.sleep(0.2)\n"
        )
        self.kube.run(
            *("exec", "-n", self.namespace, "load", "--", "python", "-c", program),
            timeout_s=_ENDED_WITHIN_S,
        )
        return self.outcome()

    def remove(self) -> None:
        """Remove the pod and its program."""
        self._kubectl("delete", "pod/load", "configmap/load", "--ignore-not-found")

    def _kubectl(self, *arguments: str, stdin: bytes | None = None) -> str:
        return self.kube.run("-n", self.namespace, *arguments, stdin=stdin)
