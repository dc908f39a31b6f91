"""The processes of the node: their configuration files, their start, and whether they answer."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cluster import flags, pki
from cluster.namespace import NODE_ADDRESS, Namespace
from cluster.tools import search_path

NAME: Final = "node"
# Inside, /run and /var are the namespace's own: short paths, for sockets have short names.
SOCKET: Final = Path("/run/containerd/containerd.sock")
_INSIDE: Final = Path("/var/lib/llmservice-node")
_DNS_ADDRESS: Final = "169.254.20.10"
_API_PORT: Final = 6443
_SERVER: Final = f"https://{NODE_ADDRESS}:{_API_PORT}"
_USERS: Final = {
    "manager": "system:kube-controller-manager",
    "scheduler": "system:kube-scheduler",
    "proxy": "system:kube-proxy",
}


def audit_log(home: Path) -> Path:
    """Where the API server says who asked it for what."""
    return home / "logs" / "audit.log"


def _layout(home: Path) -> flags.Layout:
    return flags.Layout(
        keys=home / "keys",
        state=home / "state",
        bind_address="0.0.0.0",
        api_port=_API_PORT,
        etcd_port=2379,
        peer_port=2380,
    )


def write_configuration(home: Path, *, pause: str, cni: Path) -> None:
    """Write keys, kubeconfigs and configuration files below `home`."""
    layout = _layout(home)
    networks = layout.state / "cni"
    networks.mkdir(parents=True, exist_ok=True)
    (home / "logs").mkdir(exist_ok=True)
    audit_log(home).unlink(missing_ok=True)
    (layout.state / "audit.json").write_text(json.dumps(flags.audit_policy()), encoding="utf-8")
    _write_keys(home, layout)
    # Pods resolve cluster names only, through clusterDNS.
    (layout.state / "resolv.conf").write_text("# empty on purpose\n", encoding="utf-8")
    (layout.state / "kubelet.json").write_text(
        json.dumps(flags.kubelet_configuration(layout, dns=_DNS_ADDRESS, socket=SOCKET)),
        encoding="utf-8",
    )
    (networks / "10-llmservice.conflist").write_text(
        json.dumps(flags.network_configuration()), encoding="utf-8"
    )
    (layout.state / "containerd.toml").write_text(
        flags.containerd_configuration(
            root=home / "containerd",
            state=SOCKET.parent,
            socket=SOCKET,
            pause=pause,
            cni=(cni, networks),
        ),
        encoding="utf-8",
    )
    (layout.state / "Corefile").write_text(
        flags.corefile(address=_DNS_ADDRESS, kubeconfig=home / "kubeconfig"), encoding="utf-8"
    )


def _write_keys(home: Path, layout: flags.Layout) -> None:
    authority = pki.new_authority(layout.keys)
    pki.signing_key(layout.keys / "sa.key")
    service = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "10.96.0.1")
    authority.issue(
        "apiserver",
        user="kube-apiserver",
        hosts=("127.0.0.1", "localhost", NODE_ADDRESS, *service),
    )
    masters = ("system:masters",)
    authority.issue("kubelet-client", user="kube-apiserver-kubelet-client", groups=masters)
    admin = authority.issue("admin", user="admin", groups=masters)
    authority.kubeconfig(home / "kubeconfig", server=_SERVER, certificate=admin)
    node = authority.issue(
        "node",
        user=f"system:node:{NAME}",
        groups=("system:nodes",),
        hosts=(NAME, "127.0.0.1", NODE_ADDRESS),
    )
    authority.kubeconfig(layout.state / "node.kubeconfig", server=_SERVER, certificate=node)
    for name, user in _USERS.items():
        path = layout.state / f"{name}.kubeconfig"
        authority.kubeconfig(path, server=_SERVER, certificate=authority.issue(name, user=user))


class Daemons:
    """Starts the node's processes inside `space` and asks them questions."""

    def __init__(self, home: Path, space: Namespace, programs: Mapping[str, Path]) -> None:
        self._home = home
        self._space = space
        self._programs = programs
        self._layout = _layout(home)

    def start_runtime(self) -> None:
        """Start containerd."""
        self._start("containerd", ["--config", str(self._layout.state / "containerd.toml")])

    def start_control_plane(self) -> None:
        """Start etcd and the API server."""
        # Data that nobody keeps: in memory.
        inside = flags.Layout(
            keys=self._layout.keys,
            state=_INSIDE,
            bind_address=self._layout.bind_address,
            api_port=self._layout.api_port,
            etcd_port=self._layout.etcd_port,
            peer_port=self._layout.peer_port,
        )
        keys = self._layout.keys
        self._start("etcd", flags.etcd(inside))
        kubelet = [
            f"--kubelet-client-certificate={keys / 'kubelet-client.crt'}",
            f"--kubelet-client-key={keys / 'kubelet-client.key'}",
            f"--kubelet-certificate-authority={keys / 'ca.crt'}",
            "--kubelet-preferred-address-types=InternalIP",
        ]
        # The second plugin is off by default and on in OpenShift and others: owner references that
        # block deletion then need rights of their own.
        plugins = "NodeRestriction,OwnerReferencesPermissionEnforcement"
        admission = ["--authorization-mode=Node,RBAC", f"--enable-admission-plugins={plugins}"]
        address = [f"--advertise-address={NODE_ADDRESS}"]
        audit = flags.audit(self._layout.state / "audit.json", audit_log(self._home))
        self._start(
            "kube-apiserver", [*flags.apiserver(inside), *kubelet, *admission, *address, *audit]
        )

    def start_node(self) -> None:
        """Start everything that needs the API server."""
        state = self._layout.state
        manager = state / "manager.kubeconfig"
        ranges = ["--allocate-node-cidrs=true", f"--cluster-cidr={flags.POD_RANGE}"]
        ranges.append(f"--service-cluster-ip-range={flags.SERVICE_RANGE}")
        self._start(
            "kube-controller-manager",
            [*flags.controller_manager(self._layout, manager), *ranges],
        )
        scheduler = f"--kubeconfig={state / 'scheduler.kubeconfig'}"
        self._start("kube-scheduler", [scheduler, "--leader-elect=false", "--secure-port=0"])
        # On a link-local address, as node-local DNS does: pods reach it through their gateway.
        self._space.run(["ip", "address", "replace", f"{_DNS_ADDRESS}/32", "dev", "lo"])
        self._start("coredns", ["-conf", str(state / "Corefile")])
        self._start(
            "kubelet",
            [
                f"--config={state / 'kubelet.json'}",
                f"--kubeconfig={state / 'node.kubeconfig'}",
                f"--hostname-override={NAME}",
                f"--node-ip={NODE_ADDRESS}",
            ],
        )
        # Zero leaves the machine's connection tracking limits alone.
        conntrack = ("max-per-core", "tcp-timeout-established", "tcp-timeout-close-wait")
        self._start(
            "kube-proxy",
            [
                f"--kubeconfig={state / 'proxy.kubeconfig'}",
                f"--hostname-override={NAME}",
                "--proxy-mode=iptables",
                f"--cluster-cidr={flags.POD_RANGE}",
                *(f"--conntrack-{name}=0" for name in conntrack),
            ],
        )

    def runtime_ready(self) -> bool:
        """Does containerd answer?"""
        return self._succeeds(self._space.command(self.ctr("version")))

    def api_ready(self) -> bool:
        """Is the API server ready?"""
        return self._succeeds([*self._kubectl(), "get", "--raw=/readyz"])

    def node_ready(self) -> bool:
        """Is the node Ready, with the address that exec and logs need, and can pods start?"""
        done = subprocess.run(
            [*self._kubectl(), "get", f"node/{NAME}", "serviceaccount/default", "-o", "json"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            return False
        status: dict[str, Any] = json.loads(done.stdout)["items"][0]["status"]
        ready = [c["status"] for c in status.get("conditions", []) if c["type"] == "Ready"]
        return ready == ["True"] and bool(status.get("addresses"))

    def ctr(self, *arguments: str) -> list[str]:
        """A containerd client's command line, for use inside."""
        return [str(self._programs["ctr"]), "-a", str(SOCKET), "-n", "k8s.io", *arguments]

    def images(self) -> dict[str, str]:
        """Loaded images and their digests."""
        lines = self._space.run(self.ctr("images", "ls")).splitlines()[1:]
        rows = (line.split() for line in lines)
        return {row[0]: row[2] for row in rows}

    def contents(self) -> frozenset[str]:
        """The digests of all blobs that containerd has."""
        return frozenset(self._space.run(self.ctr("content", "ls", "-q")).split())

    def forget_containers(self) -> bool:
        """Remove what an earlier run's pods left in containerd; True when it was restarted."""
        containers = self._space.run(self.ctr("containers", "ls", "-q")).split()
        sandboxes = self._space.run(self.ctr("sandboxes", "ls")).splitlines()[1:]
        if not containers and not sandboxes:
            return False
        if containers:
            self._space.run(self.ctr("containers", "rm", *containers))
        for line in sandboxes:
            self._space.run(self.ctr("sandboxes", "rm", "--force", line.split()[0]))
        # Its Kubernetes side has read the list at start and would go on believing in it.
        self._space.run(["pkill", "-x", "containerd"])
        self.start_runtime()
        return True

    def _kubectl(self) -> list[str]:
        return [str(self._programs["kubectl"]), f"--kubeconfig={self._home / 'kubeconfig'}"]

    def _start(self, program: str, arguments: Sequence[str]) -> None:
        path = f"PATH={search_path(self._programs)}"
        command = ["env", path, str(self._programs[program]), *arguments]
        self._space.start(command, log=self._home / "logs" / f"{program}.log")

    def _succeeds(self, command: Sequence[str]) -> bool:
        try:
            done = subprocess.run(command, capture_output=True, check=False, timeout=10)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0
