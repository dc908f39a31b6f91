"""The engine's container: vLLM's command line, environment, probes and drain hook."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from llmservice_api import names
from llmservice_api.spec import Device, Spec

from llmservice_operator.desired.model_source import adapter_path, adapters, model_path
from llmservice_operator.desired.parallel import (
    gpus_per_pod,
    parallel_arguments,
    parallel_environment,
)
from llmservice_operator.desired.security import container_security
from llmservice_operator.kube_json import Manifest, section
from llmservice_operator.service import Service

# Refused in spec.engine.args, in the CRD too: either set here from another field, or able to open
# a second door to the engine, past the gate.
OWNED_FLAGS: Final = (
    "api-key",
    "api-server-count",
    "config",
    "data-parallel-address",
    "data-parallel-backend",
    "data-parallel-external-lb",
    "data-parallel-hybrid-lb",
    "data-parallel-multi-port-external-lb",
    "data-parallel-rank",
    "data-parallel-rpc-port",
    "data-parallel-size",
    "data-parallel-size-local",
    "data-parallel-start-rank",
    "enable-lora",
    "grpc",
    "headless",
    "host",
    "lora-modules",
    "master-addr",
    "master-port",
    "max-cpu-loras",
    "max-lora-rank",
    "max-loras",
    "max-model-len",
    "max-num-active-seqs",
    "max-num-queued-reqs",
    "max-num-queued-tokens",
    "max-num-seqs",
    "model",
    "nnodes",
    "node-rank",
    "otlp-traces-endpoint",
    "pipeline-parallel-size",
    "port",
    "revision",
    "root-path",
    "scheduler-cls",
    "scheduling-policy",
    "served-model-name",
    "shutdown-timeout",
    "ssl-ca-certs",
    "ssl-cert-reqs",
    "ssl-certfile",
    "ssl-keyfile",
    "tensor-parallel-size",
    "uds",
)
# vLLM's one-dash names of flags above.
OWNED_ALIASES: Final = (
    "dp",
    "dpa",
    "dpb",
    "dpe",
    "dph",
    "dpl",
    "dpm",
    "dpn",
    "dpp",
    "dpr",
    "n",
    "pp",
    "r",
    "tp",
)

# After the drain nothing runs any more; this is for requests that came past it.
_SHUTDOWN_TIMEOUT_S: Final = 15
_STARTUP_PERIOD_S: Final = 2
_MOST_ADAPTERS_IN_USE: Final = 8  # each takes device memory; spec.model.lora.maxAdapters says more

_CPU_FLAGS: Final = (
    ("--enforce-eager",),
    # Without a size vLLM takes most of the machine's memory.
    ("--kv-cache-memory-bytes", "64M"),
)
_CPU_ENVIRONMENT: Final = {
    # The engine in the server's process: one process less, and a start seconds shorter.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # The runner whose logits-processor interface the CPU build has.
    "VLLM_USE_V2_MODEL_RUNNER": "0",
    # More threads than free cores make each step many times slower; raise it in engine.env.
    "OMP_NUM_THREADS": "1",
    "TORCHDYNAMO_DISABLE": "1",
}


def engine_container(service: Service, *, image: str) -> Manifest:
    """The container `main`."""
    spec = service.spec
    container: Manifest = {
        "name": names.CONTAINER_ENGINE,
        "image": image,
        "command": ["python", "-m", "vllm.entrypoints.launchers.api_server.entry"],
        "args": [*spec.engine.args, *_owned_arguments(service)],
        "env": _environment(service),
        "resources": _resources(spec),
        "securityContext": container_security(),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - an emptyDir
        "startupProbe": _startup_probe(spec),
        "livenessProbe": _liveness_probe(),
        "lifecycle": {"preStop": {"exec": {"command": _drain_command(spec)}}},
    }
    if spec.engine.device is Device.GPU:
        container["volumeMounts"].append({"name": "shm", "mountPath": "/dev/shm"})  # noqa: S108
    return container


def _owned_arguments(service: Service) -> list[str]:
    # Last on the command line, where they win over abbreviations of themselves.
    spec = service.spec
    arguments = [
        *("--model", model_path(service)),
        *("--served-model-name", service.model_name),
        *("--host", "127.0.0.1"),
        *("--port", str(names.PORT_ENGINE)),
        *("--max-num-seqs", str(spec.engine.max_num_seqs)),
        *("--scheduling-policy", "priority"),
        *("--shutdown-timeout", str(_SHUTDOWN_TIMEOUT_S)),
    ]
    arguments += parallel_arguments(spec.parallelism)
    arguments += _lora_arguments(service)
    if spec.engine.max_model_len is not None:
        arguments += ["--max-model-len", str(spec.engine.max_model_len)]
    if _traced(spec) and spec.tracing and spec.tracing.exporter_endpoint:
        arguments += ["--otlp-traces-endpoint", spec.tracing.exporter_endpoint]
    if spec.engine.device is Device.CPU:
        arguments += _cpu_arguments(spec)
    return arguments


def _lora_arguments(service: Service) -> list[str]:
    lora, given = service.spec.model.lora, adapters(service.spec)
    if lora is None or not given:
        return []
    in_use = lora.max_adapters or min(len(given), _MOST_ADAPTERS_IN_USE)
    arguments = ["--enable-lora", "--max-loras", str(in_use)]
    # What is not in use waits in memory, not on a disk.
    arguments += ["--max-cpu-loras", str(max(in_use, len(given)))]
    if lora.max_rank is not None:
        arguments += ["--max-lora-rank", str(lora.max_rank)]
    modules = [f"{adapter.name}={adapter_path(service, adapter)}" for adapter in given]
    return [*arguments, "--lora-modules", *modules]


def _cpu_arguments(spec: Spec) -> list[str]:
    """CPU flags that the user has not set otherwise."""
    given = {word.partition("=")[0].replace("_", "-") for word in spec.engine.args}
    return [word for flag in _CPU_FLAGS if flag[0] not in given for word in flag]


def _traced(spec: Spec) -> bool:
    return spec.tracing is not None and spec.tracing.exporter in {"otlp", "otlp-http"}


def _environment(service: Service) -> list[Manifest]:
    spec = service.spec
    # A numeric user has no passwd entry and no home: libraries get both here.
    values = {
        "HOME": "/tmp",  # noqa: S108 - an emptyDir
        # Whatever is missing was not delivered: nothing is downloaded behind the operator's back.
        "HF_HUB_OFFLINE": "1",
        "LOGNAME": "llmservice",
        "USER": "llmservice",
        "XDG_CACHE_HOME": "/tmp/.cache",  # noqa: S108 - an emptyDir
        "VLLM_NO_USAGE_STATS": "1",
    }
    if spec.engine.device is Device.CPU:
        values |= _CPU_ENVIRONMENT
    if _traced(spec) and spec.tracing and spec.tracing.exporter_endpoint:
        values["OTEL_SERVICE_NAME"] = f"{service.name}-engine"
        http = spec.tracing.exporter == "otlp-http"
        values["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] = "http/protobuf" if http else "grpc"
        secure = urlsplit(spec.tracing.exporter_endpoint).scheme == "https"
        values["OTEL_EXPORTER_OTLP_TRACES_INSECURE"] = "false" if secure else "true"
    given = {entry["name"] for entry in spec.engine.env}
    ours = [{"name": name, "value": values[name]} for name in sorted(values) if name not in given]
    # The user's order is kept: later entries may refer to earlier ones by $(NAME).
    around = [
        entry for entry in parallel_environment(spec.parallelism) if entry["name"] not in given
    ]
    return [*around, *ours, *spec.engine.env]


def _resources(spec: Spec) -> Manifest:
    given = spec.engine.resources or {}
    resources: Manifest = {**given}
    if spec.engine.device is Device.GPU:
        count = str(gpus_per_pod(spec.parallelism))
        for bound in ("limits", "requests"):
            resources[bound] = {spec.engine.gpu_resource: count, **section(given, bound)}
    return resources


def _startup_probe(spec: Spec) -> Manifest:
    # The engine listens on loopback, where a kubelet cannot look; the sidecar is ready when the
    # engine is.
    return {
        "httpGet": {"path": "/readyz", "port": names.PORT_OPS},
        "periodSeconds": _STARTUP_PERIOD_S,
        "timeoutSeconds": 2,
        "failureThreshold": max(1, -(-spec.engine.startup_timeout_seconds // _STARTUP_PERIOD_S)),
    }


def _liveness_probe() -> Manifest:
    # Asks the engine itself: a broken sidecar must not restart a model that took minutes to load.
    url = f"http://127.0.0.1:{names.PORT_ENGINE}/health"
    script = f"import urllib.request as r; r.urlopen({url!r}, timeout=15).close()"
    return {
        "exec": {"command": ["python", "-c", script]},
        "periodSeconds": 30,
        "timeoutSeconds": 20,
        "failureThreshold": 4,
    }


def _drain_command(spec: Spec) -> list[str]:
    # Python, because the engine's image need not have curl. A failure ends the hook, not the pod.
    url = f"http://127.0.0.1:{names.PORT_ADMIN}/drain"
    timeout = spec.drain_timeout_seconds + 10
    script = f"import urllib.request as r; r.urlopen({url!r}, data=b'', timeout={timeout}).close()"
    return ["python", "-c", script]
