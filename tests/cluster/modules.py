"""The programs of the test cluster: which pinned Go module holds each, and how it is built.

Versions live in `tools/<module>/go.mod` alone; this module must not repeat them.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

TOOLS: Final = Path(__file__).parent / "tools"
_KUBERNETES: Final = "k8s.io/kubernetes"
_CONTAINERD: Final = "github.com/containerd/containerd/v2"


@dataclass(frozen=True, slots=True)
class Module:
    """One wrapper module under `tools/` and the programs that are built from it.

    `packages` maps a program to its Go package, `probe` is the arguments that make any of the
    programs print its version, `ldflags` may hold `{version}` and `{minor}`.
    """

    name: str
    path: str
    packages: dict[str, str]
    probe: dict[str, tuple[str, ...]]
    minutes: float
    ldflags: str = ""
    tags: str = ""
    # Where official builds of one program are, with `.sha256` beside each; "" when there are none.
    download: str = field(default="", kw_only=True)

    @property
    def directory(self) -> Path:
        """Where the committed go.mod and go.sum are."""
        return TOOLS / self.name

    @property
    def version(self) -> str:
        """The pinned version without its leading v, as `go.mod` requires it."""
        text = (self.directory / "go.mod").read_text(encoding="utf-8")
        found = re.search(rf"^(?:require|\t)?\s*{re.escape(self.path)} v(\S+)", text, re.MULTILINE)
        if found is None:
            raise ValueError(
                f"{self.directory / 'go.mod'} does not require {self.path}: restore it"
            )
        return found.group(1)

    @property
    def key(self) -> str:
        """Twelve hex digits that change when the pins or the way of building change."""
        digest = hashlib.sha256(
            repr((self.packages, self.ldflags, self.tags)).encode(),
        )
        for name in ("go.mod", "go.sum"):
            digest.update((self.directory / name).read_bytes())
        return digest.hexdigest()[:12]

    def linker_flags(self) -> str:
        """The flags with the version filled in; symbols are stripped (a third of the size)."""
        minor = self.version.split(".")[1]
        return ("-s -w " + self.ldflags.format(version=f"v{self.version}", minor=minor)).strip()


def _kubernetes() -> Module:
    programs = (
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
        "kube-proxy",
        "kubectl",
    )
    stamp = "k8s.io/component-base/version"
    return Module(
        name="kubernetes",
        path=_KUBERNETES,
        packages={program: f"{_KUBERNETES}/cmd/{program}" for program in programs},
        probe={program: ("--version",) for program in programs if program != "kubectl"}
        | {"kubectl": ("version", "--client")},
        minutes=6,
        ldflags=f"-X {stamp}.gitVersion={{version}} -X {stamp}.gitMajor=1"
        f" -X {stamp}.gitMinor={{minor}} -X {stamp}.gitTreeState=clean",
        download="https://dl.k8s.io/v{version}/bin/linux/{arch}/{program}",
    )


def _containerd() -> Module:
    programs = ("containerd", "containerd-shim-runc-v2", "ctr")
    return Module(
        name="containerd",
        path=_CONTAINERD,
        packages={program: f"{_CONTAINERD}/cmd/{program}" for program in programs},
        probe={"containerd": ("--version",), "containerd-shim-runc-v2": ("-v",)}
        | {"ctr": ("--version",)},
        minutes=1.5,
        ldflags=f"-X {_CONTAINERD}/version.Version={{version}}",
        # Snapshotters that would need C libraries and that this node never uses.
        tags="no_btrfs,no_devmapper,no_zfs",
    )


def _prometheus() -> Module:
    path = "github.com/prometheus/prometheus"
    programs = ("prometheus", "promtool")
    return Module(
        name="prometheus",
        path=path,
        packages={program: f"{path}/cmd/{program}" for program in programs},
        probe=dict.fromkeys(programs, ("--version",)),
        minutes=6,
        ldflags="-X github.com/prometheus/common/version.Version={version}",
        # Targets come from files and no web page is looked at: half of the packages stay out.
        tags="remove_all_sd",
    )


def _single(program: str, path: str, package: str, probe: str, minutes: float) -> Module:
    return Module(
        name=program,
        path=path,
        packages={program: path + package},
        probe={program: (probe,)},
        minutes=minutes,
    )


MODULES: Final = (
    _kubernetes(),
    _single("etcd", "go.etcd.io/etcd/server/v3", "", "--version", 0.5),
    _containerd(),
    _single("coredns", "github.com/coredns/coredns", "", "-version", 2),
    _single("grpcurl", "github.com/fullstorydev/grpcurl", "/cmd/grpcurl", "-version", 0.6),
    _single("actionlint", "github.com/rhysd/actionlint", "/cmd/actionlint", "-version", 0.3),
    _single("jaeger", "github.com/jaegertracing/jaeger", "/cmd/all-in-one", "version", 2.5),
    _prometheus(),
)

CONTROL_PLANE: Final = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
NODE: Final = (
    *CONTROL_PLANE,
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "containerd",
    "containerd-shim-runc-v2",
    "ctr",
    "coredns",
)
MONITORING: Final = ("prometheus", "promtool", "jaeger")
E2E: Final = (*NODE, "jaeger", "grpcurl")


def module_of(program: str) -> Module:
    """The module that holds `program`; an unknown name is a programming error."""
    for module in MODULES:
        if program in module.packages:
            return module
    known = ", ".join(sorted(name for module in MODULES for name in module.packages))
    raise ValueError(f"unknown program {program!r}; known are {known}")
