"""What a node needs from the machine, and what the machine looks like before and after."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cluster.namespace import COVERED_SYSCTLS

# Program -> Debian package that has it.
_PROGRAMS: Final = {
    "runc": "runc",
    "catatonit": "catatonit",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ipset": "ipset",
    "ip": "iproute2",
    "ethtool": "ethtool",
    "socat": "socat",
    "nsenter": "util-linux",
    "unshare": "util-linux",
}
_IMAGE_PROGRAMS: Final = {"buildah": "buildah", "debootstrap": "debootstrap"}
_CNI_FOLDERS: Final = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
# What kubelet, containerd and network plugins would leave behind outside a namespace.
_FOLDERS: Final = (
    "/etc/cni",
    "/etc/containerd",
    "/opt/cni",
    "/opt/containerd",
    "/run/containerd",
    "/run/flannel",
    "/run/netns",
    "/run/nri",
    "/usr/libexec/kubernetes",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/etcd",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
)
_CGROUPS: Final = Path("/sys/fs/cgroup")

Snapshot = dict[str, list[str]]


class MachineError(RuntimeError):
    """The machine lacks something; the message says what to install."""


def cni_folder() -> Path | None:
    """Where the network plugins are."""
    return next((f for f in _CNI_FOLDERS if (f / "bridge").exists()), None)


def prepare(*, with_images: bool, say: Callable[[str], None]) -> None:
    """Install the missing packages with apt, or raise MachineError naming them."""
    if os.geteuid() != 0:
        raise MachineError("a node needs root: run it with sudo, or give a cluster by KUBECONFIG")
    programs = _PROGRAMS | (_IMAGE_PROGRAMS if with_images else {})
    missing = {package for program, package in programs.items() if shutil.which(program) is None}
    missing |= {"containernetworking-plugins"} if cni_folder() is None else set[str]()
    if not missing:
        return
    names = " ".join(sorted(missing))
    if shutil.which("apt-get") is None:
        raise MachineError(f"install with this machine's package manager: {names}")
    say(f"installing {names}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *sorted(missing)]
    for command in (["apt-get", "update", "-q"], install):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MachineError(f"`apt-get install {names}` failed: {done.stderr.strip()[-500:]}")


def snapshot() -> Snapshot:
    """Everything of the machine that a node could change and leave changed."""
    return {
        "mounts": _mounts(),
        "links": _lines("ip", "-o", "link", pattern=r"^\d+: ([^:@]+)"),
        "addresses": _lines("ip", "-o", "address", pattern=r"^\d+: (\S+ +\S+ \S+)"),
        "routes": _lines("ip", "route", "show", "table", "all"),
        "firewall": _firewall(),
        "ipsets": _lines("ipset", "list", "-name"),
        "cgroups": _cgroups(),
        "sysctls": [f"{name} = {_sysctl(name)}" for name in COVERED_SYSCTLS],
        "folders": [entry for folder in _FOLDERS for entry in _entries(Path(folder))],
    }


def difference(before: Snapshot, after: Snapshot) -> list[str]:
    """One line for each thing that came or went."""
    lines: list[str] = []
    for kind, had in before.items():
        has = after[kind]
        lines += [f"{kind}: left behind: {item}" for item in has if item not in had]
        lines += [f"{kind}: gone: {item}" for item in had if item not in has and kind != "cgroups"]
    return lines


def processes_mentioning(text: str) -> list[str]:
    """The command lines, with process ids, of live processes that mention `text`."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended while we looked
        if text in command:
            found.append(f"{entry.name} {command.strip()}")
    return found


def remove_pod_cgroups() -> None:
    """Remove the groups that kubelet made for pods; only empty ones can be removed."""
    for top in _pod_cgroups():
        for folder in sorted(top.rglob("*"), key=lambda path: -len(path.parts)):
            if folder.is_dir():
                folder.rmdir()
        top.rmdir()


def _pod_cgroups() -> list[Path]:
    return [path for base in (_CGROUPS, *_CGROUPS.glob("*")) for path in base.glob("kubepods*")]


def _mounts() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return sorted(line.split()[4] for line in lines)


def _lines(*command: str, pattern: str = r"(.*)") -> list[str]:
    if shutil.which(command[0]) is None:
        return []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = (re.match(pattern, line.strip()) for line in done.stdout.splitlines())
    return sorted(match.group(1) for match in found if match)


def _firewall() -> list[str]:
    rules: list[str] = []
    for program in ("iptables-save", "ip6tables-save", "iptables-legacy-save"):
        # Without comments, which hold the time, and without counters.
        lines = [re.sub(r"\s*\[\d+:\d+\]", "", line) for line in _lines(program)]
        rules += [f"{program} {line}" for line in lines if not line.startswith("#")]
    return rules


def _cgroups() -> list[str]:
    # Services and sessions come and go by themselves; kubelet's groups have no such names.
    folders = (path for path in _CGROUPS.rglob("*") if path.is_dir())
    return sorted(str(path) for path in folders if not re.search(r"\.(scope|service)", str(path)))


def _sysctl(name: str) -> str:
    path = Path("/proc/sys") / name
    return path.read_text(encoding="ascii").strip() if path.exists() else ""


def _entries(folder: Path) -> list[str]:
    return [str(folder), *sorted(str(path) for path in folder.glob("*"))] if folder.exists() else []
