"""The command lines that the operator renders for engines, as their programs get them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from llmservice_api import names

Json = dict[str, Any]
# Set by Kubernetes and LeaderWorkerSet in the pods of a group.
ADDRESSES: Final = {"$(POD_IP)": "127.0.0.1", "$(LWS_LEADER_ADDRESS)": "svc-nodes-0.svc-nodes.ns"}


def engines(manifests: Iterable[Json]) -> list[Json]:
    """The engine's container of every pod template; of a group the leader's, then a worker's."""
    templates: list[Json] = []
    for manifest in manifests:
        if manifest["kind"] == "Deployment":
            templates.append(manifest["spec"]["template"])
        if manifest["kind"] == "LeaderWorkerSet":
            group = manifest["spec"]["leaderWorkerTemplate"]
            templates += [group["leaderTemplate"], group["workerTemplate"]]
    containers = [one for template in templates for one in template["spec"]["containers"]]
    return [one for one in containers if one["name"] == names.CONTAINER_ENGINE]


def line(engine: Json, *, index: str = "1", leader: str | None = None) -> list[str]:
    """The words after the program's name and its subcommand, in pod `index` of its group."""
    given = engine["command"][engine["command"].index("-m") + 2 :]
    words = [*(word for word in given if word != "serve"), *engine["args"]]
    values = {**ADDRESSES, "$(LWS_WORKER_INDEX)": index}
    if leader is not None:
        values["$(LWS_LEADER_ADDRESS)"] = leader
    return [str(values.get(word, word)) for word in words]
