"""How one replica is spread over devices and nodes: flags, GPUs and environment of the engine.

Over several nodes vLLM runs its own processes on each of them, without Ray: the leader serves,
the workers run headless and find it by the address that LeaderWorkerSet gives them.
"""

from __future__ import annotations

from typing import Final

from llmservice_api import names
from llmservice_api.spec import Parallelism, Spec

from llmservice_operator.kube_json import Manifest
from llmservice_operator.service import Service

# Set by LeaderWorkerSet in every container of a group.
_LEADER_ADDRESS: Final = "$(LWS_LEADER_ADDRESS)"
_WORKER_INDEX: Final = "$(LWS_WORKER_INDEX)"
_POD_IP: Final = "$(POD_IP)"
_WORKER_COMMAND: Final = ["python", "-m", "vllm.entrypoints.cli.main", "serve"]

# A worker ends after its leader has drained, not with the signal that both get: the leader's last
# answers need it. Python, because the engine's image need not have curl.
_WAIT_FOR_LEADER: Final = """\
import json, os, time, urllib.request
url = f"http://{{os.environ['LWS_LEADER_ADDRESS']}}:{port}/status"
start = time.monotonic()
while time.monotonic() - start < {timeout}:
    try:
        told = json.load(urllib.request.urlopen(url, timeout=5))
    except OSError:
        break
    queue = told["queue"]
    idle = queue["queued_requests"] + queue["in_flight_slots"] == 0
    if idle if told["draining"] else time.monotonic() - start > {notice}:
        break
    time.sleep(1)
"""
_NOTICE_S: Final = 30  # for the leader to be told to leave too; if it is not, nothing is waited for


def parallel_arguments(parallel: Parallelism) -> list[str]:
    """vLLM's flags for a replica of more than one device, as its serving process gets them."""
    sizes = {
        "--tensor-parallel-size": parallel.tensor,
        "--pipeline-parallel-size": parallel.pipeline,
        "--data-parallel-size": parallel.data,
    }
    arguments = [word for flag, size in sizes.items() if size > 1 for word in (flag, str(size))]
    if parallel.nodes > 1:
        arguments += _node_arguments(parallel, rank="0", leader=_POD_IP)
    return arguments


def gpus_per_pod(parallel: Parallelism) -> int:
    """GPUs of each pod of a replica; the CRD refuses sizes that nodes do not divide."""
    return parallel.tensor * parallel.pipeline * parallel.data // parallel.nodes


def parallel_environment(parallel: Parallelism) -> list[Manifest]:
    """What the engine needs to know of its node; nothing when a replica has only one."""
    if parallel.nodes == 1:
        return []
    place = {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}
    return [
        {"name": "POD_IP", "valueFrom": place},
        # The address that the other nodes connect to, not the first one that is found.
        {"name": "VLLM_HOST_IP", "value": _POD_IP},
    ]


def worker_container(engine: Manifest, service: Service) -> Manifest:
    """The engine of a node that serves nobody, from the serving one."""
    parallel = service.spec.parallelism
    leading = _node_arguments(parallel, rank="0", leader=_POD_IP)
    following = _node_arguments(parallel, rank=_WORKER_INDEX, leader=_LEADER_ADDRESS)
    arguments = _replaced(engine["args"], leading, following)
    place = arguments.index("--model")
    model = arguments[place + 1]
    # Nothing listens there, so nothing can be asked: when a process of the engine ends, its
    # container ends, and with it the group.
    kept = {
        key: value
        for key, value in engine.items()
        if key not in {"startupProbe", "livenessProbe", "readinessProbe"}
    }
    return {
        **kept,
        "command": [*_WORKER_COMMAND, model],
        "args": [*arguments[:place], *arguments[place + 2 :], "--headless"],
        "lifecycle": {"preStop": {"exec": {"command": _wait_command(service.spec)}}},
    }


def _node_arguments(parallel: Parallelism, *, rank: str, leader: str) -> list[str]:
    return [
        *("--nnodes", str(parallel.nodes)),
        *("--node-rank", rank),
        *("--master-addr", leader),
        *("--master-port", str(names.PORT_GROUP)),
    ]


def _replaced(words: list[str], old: list[str], new: list[str]) -> list[str]:
    """The words with one run of them replaced."""
    start = next(i for i in range(len(words)) if words[i : i + len(old)] == old)
    return [*words[:start], *new, *words[start + len(old) :]]


def _wait_command(spec: Spec) -> list[str]:
    script = _WAIT_FOR_LEADER.format(
        port=names.PORT_OPS, timeout=spec.drain_timeout_seconds + 10, notice=_NOTICE_S
    )
    return ["python", "-c", script]
