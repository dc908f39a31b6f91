"""Why a pod is not ready, in our own stable words. Reads pod manifests, nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from llmservice_api import names
from llmservice_api.spec import Spec

from llmservice_operator.conditions import Finding
from llmservice_operator.kube_json import Manifest, condition, entries, section

_PULL: Final = {
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImageInspectError",
    "ImagePullBackOff",
    "InvalidImageName",
    "RegistryUnavailable",
    "SignatureValidationFailed",
}
_CREATE: Final = {
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "StartError",
}
_CRASH: Final = {
    names.CONTAINER_ENGINE: "EngineCrashLooping",
    names.CONTAINER_FETCH: "DownloadFailed",
    names.CONTAINER_SIDECAR: "SidecarCrashLooping",
}
_OUT_OF_MEMORY: Final = {
    names.CONTAINER_ENGINE: "EngineOutOfMemory",
    names.CONTAINER_SIDECAR: "SidecarOutOfMemory",
}
_LIMIT_FIELD: Final = {
    names.CONTAINER_ENGINE: "spec.engine.resources",
    names.CONTAINER_SIDECAR: "spec.predictor.resources",
}
_TAIL: Final = 300  # characters of the container's last words


def url_host(address: str) -> str:
    """A pod's IP address as it stands in a URL or before a port."""
    return f"[{address}]" if ":" in address else address


def is_ready(pod: Manifest) -> bool:
    """Whether the pod is ready and not on its way out."""
    leaving = "deletionTimestamp" in section(pod, "metadata")
    return not leaving and condition(pod, "Ready").get("status") == "True"


def is_leaving(pod: Manifest) -> bool:
    """Whether the pod is on its way out."""
    return "deletionTimestamp" in section(pod, "metadata")


def has_download(pod: Manifest) -> bool:
    """Whether the pod downloads or has downloaded, and is not on its way out.

    Before that its sidecar need not answer yet.
    """
    statuses = entries(pod, "status", "initContainerStatuses")
    fetch = (status for status in statuses if status["name"] == names.CONTAINER_FETCH)
    started = any(
        {"running", "terminated"} & {*section(status, "state"), *section(status, "lastState")}
        for status in fetch
    )
    return started and not is_leaving(pod)


def is_leader(pod: Manifest) -> bool:
    """Whether the pod stands for its replica: has the sidecar, is what clients reach."""
    labels = section(pod, "metadata", "labels")
    return labels.get(names.LABEL_WORKER_INDEX, "0") == "0"


def first_finding(pods: Iterable[Manifest], spec: Spec) -> Finding | None:
    """Why the newest pod that is not ready is not; None when all are or there are none."""
    waiting = [
        pod
        for pod in pods
        if not is_ready(pod) and "deletionTimestamp" not in section(pod, "metadata")
    ]
    # The newest pod has the latest template: its trouble is the one that a change can mend.
    waiting.sort(
        key=lambda pod: (pod["metadata"].get("creationTimestamp") or "", pod["metadata"]["name"]),
        reverse=True,
    )
    for pod in waiting:
        if finding := pod_finding(pod, spec):
            return finding
    return None


def pod_finding(pod: Manifest, spec: Spec) -> Finding | None:
    """Why this pod is not ready; None when there is nothing to say yet."""
    name = pod["metadata"]["name"]
    if found := _unscheduled(pod, name, spec):
        return found
    statuses = [
        *entries(pod, "status", "initContainerStatuses"),
        *entries(pod, "status", "containerStatuses"),
    ]
    for status in statuses:
        if found := _container_finding(status, name):
            return found
    if section(pod, "status").get("reason") == "Evicted":
        return Finding("Evicted", f"pod {name} was evicted: {section(pod, 'status')['message']}")
    if found := _unmounted(pod, name):
        return found
    return _starting(statuses, name, spec)


def _unscheduled(pod: Manifest, name: str, spec: Spec) -> Finding | None:
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") != "False":
        return None
    message: str = scheduled.get("message") or "no node fits"
    text = f"pod {name}: {message}"
    if f"Insufficient {spec.engine.gpu_resource}" in message:
        return Finding("InsufficientGPUs", text)
    if "persistentvolumeclaim" in message and "not found" in message:
        return Finding("PersistentVolumeClaimNotFound", text)
    return Finding("Unschedulable", text)


def _unmounted(pod: Manifest, name: str) -> Finding | None:
    """Which Secrets may be missing. Kubelets tell it in events only, which are not read here."""
    if condition(pod, "PodReadyToStartContainers").get("status") != "False":
        return None
    secrets = [section(volume, "secret") for volume in entries(pod, "spec", "volumes")]
    needed = [
        f"Secret {secret['secretName']}"
        for secret in secrets
        if secret and not secret.get("optional")
    ]
    if not needed:
        return None
    text = f"pod {name} waits for its volumes: is there {', '.join(needed)}"
    return Finding("WaitingForVolumes", f"{text}? (kubectl describe pod {name})")


def _container_finding(status: Manifest, pod: str) -> Finding | None:
    name: str = status["name"]
    waiting = section(status, "state", "waiting")
    reason = waiting.get("reason")
    detail = waiting.get("message") or reason
    if reason in _PULL:
        text = f"pod {pod}: image {status.get('image')} of container {name}: {detail}"
        return Finding("ImagePullFailed", text)
    if reason in _CREATE:
        return Finding("ContainerConfigError", f"pod {pod}: container {name}: {detail}")
    ended = section(status, "lastState", "terminated") or section(status, "state", "terminated")
    if not ended or status.get("ready"):
        return None
    if ended.get("reason") == "OOMKilled":
        raise_it = _LIMIT_FIELD.get(name, "its memory limit")
        text = f"pod {pod}: container {name} was killed at its memory limit; raise {raise_it}"
        return Finding(_OUT_OF_MEMORY.get(name, "ContainerOutOfMemory"), text)
    # One end is an accident that a restart may mend; a second one is a loop. A download has made
    # its attempts by itself.
    looping = reason == "CrashLoopBackOff" or status.get("restartCount", 0) > 1
    if looping or name == names.CONTAINER_FETCH:
        return Finding(_CRASH.get(name, "ContainerCrashLooping"), _last_words(ended, name, pod))
    return None


def _last_words(ended: Manifest, container: str, pod: str) -> str:
    text = f"pod {pod}: container {container} ended with exit code {ended.get('exitCode')}"
    if said := last_words(ended):
        text += f": {said}"
    return f"{text} (kubectl logs {pod} -c {container} --previous)"


def last_words(ended: Manifest) -> str:
    """The last line that a container said before it ended; empty if there is none."""
    message: str = ended.get("message") or ""
    return message.strip().rpartition("\n")[2].strip()[-_TAIL:]


def _starting(statuses: list[Manifest], pod: str, spec: Spec) -> Finding | None:
    by_name = {status["name"]: status for status in statuses}
    engine = by_name.get(names.CONTAINER_ENGINE, {})
    if "running" in section(engine, "state"):
        limit = spec.engine.startup_timeout_seconds
        text = f"pod {pod}: vLLM is loading the model; allowed are {limit} s"
        return Finding("EngineLoading", f"{text} (spec.engine.startupTimeoutSeconds)")
    if "running" in section(by_name.get(names.CONTAINER_FETCH, {}), "state"):
        return Finding("ModelDownloading", f"pod {pod} downloads the model")
    if statuses:
        return Finding("ContainersStarting", f"pod {pod}: its containers are being started")
    return Finding("PodPending", f"pod {pod} waits for a node")
