"""The command lines of the control plane's processes, shared by the plane and the node."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

SERVICE_RANGE: Final = "10.96.0.0/16"
POD_RANGE: Final = "10.244.0.0/16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where a control plane keeps its files and listens.

    `keys` holds what `pki` wrote, `state` is for data that nobody reads after the end.
    """

    keys: Path
    state: Path
    bind_address: str
    api_port: int
    etcd_port: int
    peer_port: int


def etcd(layout: Layout) -> list[str]:
    """The arguments of etcd, on loopback."""
    client = f"http://127.0.0.1:{layout.etcd_port}"
    peer = f"http://127.0.0.1:{layout.peer_port}"
    return [
        f"--data-dir={layout.state / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        # Nobody reads this data after a crash, and a busy disk would make every write slow.
        "--unsafe-no-fsync",
    ]


def apiserver(layout: Layout) -> list[str]:
    """The arguments of kube-apiserver that do not depend on whether there is a node."""
    keys = layout.keys
    return [
        f"--etcd-servers=http://127.0.0.1:{layout.etcd_port}",
        f"--bind-address={layout.bind_address}",
        f"--secure-port={layout.api_port}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        f"--tls-cert-file={keys / 'apiserver.crt'}",
        f"--tls-private-key-file={keys / 'apiserver.key'}",
        f"--client-ca-file={keys / 'ca.crt'}",
        f"--service-account-key-file={keys / 'sa.key'}",
        f"--service-account-signing-key-file={keys / 'sa.key'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--allow-privileged=true",
        f"--cert-dir={layout.state / 'apiserver'}",
    ]


def audit_policy() -> dict[str, object]:
    """Who did what, of the service accounts of installed software; the cluster's own are left out.

    What an operator is granted can then be compared with what it uses.
    """
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
            {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
            {"level": "None"},
        ],
    }


def audit(policy: Path, log: Path) -> list[str]:
    """The arguments of kube-apiserver that write one JSON line per request to `log`."""
    # In one file: whoever reads it wants all of a run.
    return [
        f"--audit-policy-file={policy}",
        f"--audit-log-path={log}",
        "--audit-log-maxsize=2000",
    ]


def controller_manager(layout: Layout, kubeconfig: Path) -> list[str]:
    """The arguments of kube-controller-manager; it listens on no port."""
    return [
        f"--kubeconfig={kubeconfig}",
        f"--service-account-private-key-file={layout.keys / 'sa.key'}",
        f"--root-ca-file={layout.keys / 'ca.crt'}",
        "--use-service-account-credentials",
        "--leader-elect=false",
        # Garbage collection asks three times for each object: 200 services take minutes at 20/s.
        *("--kube-api-qps=200", "--kube-api-burst=400"),
        # Two of these run side by side on one machine.
        "--secure-port=0",
    ]


def kubelet_configuration(layout: Layout, *, dns: str, socket: Path) -> dict[str, object]:
    """KubeletConfiguration for a node without systemd that may use cgroup v1."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "x509": {"clientCAFile": str(layout.keys / "ca.crt")},
            "webhook": {"enabled": True},
            "anonymous": {"enabled": False},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{socket}",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        # Lowering it needs CAP_SYS_RESOURCE, which a container or a sandbox may lack.
        "oomScoreAdj": 0,
        "tlsCertFile": str(layout.keys / "node.crt"),
        "tlsPrivateKeyFile": str(layout.keys / "node.key"),
        "resolvConf": str(layout.state / "resolv.conf"),
        "clusterDNS": [dns],
        "clusterDomain": "cluster.local",
        "volumePluginDir": str(layout.state / "volume-plugins"),
        # The disk is the machine's: other people's files must not evict our pods.
        "evictionHard": {
            "memory.available": "200Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
        },
        "imageGCHighThresholdPercent": 100,
    }


def containerd_configuration(
    *, root: Path, state: Path, socket: Path, pause: str, cni: tuple[Path, Path]
) -> str:
    """containerd's config.toml; `cni` is the folder of plugins and the folder of networks."""
    plugins, networks = cni
    cri = "io.containerd.cri.v1"
    return f"""\
version = 3
root = "{root}"
state = "{state}"
[grpc]
  address = "{socket}"
[ttrpc]
  address = "{socket}.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{state}/opt"
[plugins."{cri}.images".pinned_images]
  sandbox = "{pause}"
[plugins."{cri}.runtime"]
  restrict_oom_score_adj = true
  [plugins."{cri}.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."{cri}.runtime".containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins."{cri}.runtime".cni]
    bin_dirs = ["{plugins}"]
    conf_dir = "{networks}"
"""


def network_configuration() -> dict[str, object]:
    """The CNI network: one bridge, addresses from the node's part of POD_RANGE."""
    ranges = [[{"subnet": POD_RANGE.replace(".0.0/16", ".0.0/24")}]]
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]},
    }
    return {"cniVersion": "0.4.0", "name": "llmservice", "plugins": [bridge]}


def corefile(*, address: str, kubeconfig: Path) -> str:
    """CoreDNS for cluster names only: no test may depend on the world outside."""
    return f"""\
.:53 {{
  bind {address}
  errors
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {kubeconfig} test
    pods insecure
  }}
  cache 5
}}
"""
