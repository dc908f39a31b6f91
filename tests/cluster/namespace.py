"""A set of Linux namespaces in which a whole node runs and with which all of it ends.

Mounts, addresses, routes, firewall rules, processes and what is written to /var and /run exist
inside only: ending the namespace's first process takes every one of them away.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# From the range that is reserved for benchmarks (RFC 2544): nobody's network uses it.
HOST_ADDRESS: Final = "198.18.250.1"
NODE_ADDRESS: Final = "198.18.250.2"
HOST_LINK: Final = "llmsvc0"
_END_TIMEOUT_S: Final = 20.0
_START_TIMEOUT_S: Final = 10.0
# kubelet and runc set these for the whole machine, for they belong to no namespace: inside they
# are covered with ordinary files.
COVERED_SYSCTLS: Final = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)

_SETUP: Final = """
set -eu
mount --make-rshared /
# What a node writes outside its own folders goes to memory; `keep` is a real folder all the same.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/keep /run/upper /run/work /run/covered
mount --bind {keep} /run/keep
mount -t tmpfs -o mode=755 tmpfs /run/upper
mkdir -p /run/upper/upper /run/upper/work
mount -t overlay overlay -o lowerdir=/var,upperdir=/run/upper/upper,workdir=/run/upper/work /var
mkdir -p {keep}
mount --bind /run/keep {keep}
for name in {sysctls}; do
  file=/run/covered/$(echo "$name" | tr / _)
  cat "/proc/sys/$name" > "$file"
  mount --bind "$file" "/proc/sys/$name"
done
ip link set lo up
ip address add {node}/30 dev eth0
ip link set eth0 up
echo 1 > /proc/sys/net/ipv4/ip_forward
"""


class NamespaceError(RuntimeError):
    """The namespace could not be made or entered; the message says why."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """The namespaces of process `pid`, which reaps and, with its end, ends all others."""

    pid: int

    @property
    def alive(self) -> bool:
        """Does the first process still run?"""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii")
        except (FileNotFoundError, ProcessLookupError):
            return False
        return stat.rpartition(")")[2].split()[0] != "Z"

    def command(self, arguments: Sequence[str]) -> list[str]:
        """A command line that runs `arguments` inside."""
        return ["nsenter", "-t", str(self.pid), "-m", "-n", "-p", "--", *arguments]

    def run(self, arguments: Sequence[str], *, timeout_s: float = 60) -> str:
        """Run a command inside to its end and return its output; NamespaceError when it fails."""
        done = subprocess.run(
            self.command(arguments), capture_output=True, text=True, check=False, timeout=timeout_s
        )
        if done.returncode != 0:
            raise NamespaceError(f"`{shlex.join(arguments)}` failed: {done.stderr.strip()}")
        return done.stdout

    def start(self, arguments: Sequence[str], *, log: Path) -> None:
        """Start a process inside that is the namespace's own child; its output goes to `log`."""
        line = (
            f"cd / && setsid {shlex.join(arguments)} > {shlex.quote(str(log))} 2>&1 < /dev/null &"
        )
        self.run(["sh", "-c", line])

    def end(self) -> None:
        """Kill the first process and with it all; returns when none is left."""
        inside = processes_inside(self.pid)
        # When it has ended by itself, the rest may still be ending.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        deadline = time.monotonic() + _END_TIMEOUT_S
        while left := [pid for pid in inside if Namespace(pid).alive]:
            if time.monotonic() > deadline:
                raise NamespaceError(f"processes {left} do not end: look at them with `ps`")
            time.sleep(0.05)


def remove_link() -> None:
    """Remove the machine's end of the link; the kernel would do so too, but in its own time."""
    # Fails when it is gone already, which is what was wanted.
    subprocess.run(["ip", "link", "delete", HOST_LINK], capture_output=True, check=False)


def processes_inside(pid: int) -> list[int]:
    """All processes that share the process namespace of `pid`, seen from outside."""
    wanted = _namespace_of(pid)
    numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [number for number in numbers if wanted and _namespace_of(number) == wanted]


def create(*, keep: Path) -> Namespace:
    """Make the namespaces; `keep` is the one folder whose contents stay on disk."""
    keep.mkdir(parents=True, exist_ok=True)
    # Through a shell, so that it is nobody's child and outlives the command that asked for it.
    unshare = (
        "setsid unshare --mount --net --pid --fork --mount-proc --propagation private "
        "catatonit -- sleep infinity < /dev/null > /dev/null 2>&1 & echo $!"
    )
    started = subprocess.run(["sh", "-c", unshare], capture_output=True, text=True, check=True)
    namespace = Namespace(_first_child(int(started.stdout)))
    try:
        _connect(namespace)
        # `keep` as this process sees it: under /var it would vanish below the overlay.
        setup = _SETUP.format(
            keep=shlex.quote(str(keep)), sysctls=" ".join(_present_sysctls()), node=NODE_ADDRESS
        )
        namespace.run(["sh", "-c", setup])
    except BaseException:
        namespace.end()
        remove_link()
        raise
    return namespace


def _first_child(outer: int) -> int:
    """The process that became the first of its namespace, once it is that."""
    children = Path(f"/proc/{outer}/task/{outer}/children")
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            found = children.read_text(encoding="ascii").split()
        except (FileNotFoundError, ProcessLookupError):
            break
        if found and Path(f"/proc/{found[0]}/comm").read_text(encoding="ascii") == "catatonit\n":
            return int(found[0])
        time.sleep(0.02)
    raise NamespaceError("unshare and catatonit do not start: this needs root and Linux namespaces")


def _connect(namespace: Namespace) -> None:
    """One link between machine and node; it vanishes with the namespace."""
    inside = str(namespace.pid)
    for command in (
        ["ip", "link", "add", HOST_LINK, "type", "veth", "peer", "name", "eth0", "netns", inside],
        ["ip", "address", "add", f"{HOST_ADDRESS}/30", "dev", HOST_LINK],
        ["ip", "link", "set", HOST_LINK, "up"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NamespaceError(f"`{shlex.join(command)}` failed: {done.stderr.strip()}")


def _present_sysctls() -> list[str]:
    return [name for name in COVERED_SYSCTLS if (Path("/proc/sys") / name).exists()]


def _namespace_of(pid: int) -> str | None:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return None  # it ended while we looked
