"""Changes of model, engine, parallelism, predictor, security and template: the pod's side."""

from __future__ import annotations

from integration.operator.field_changes import (
    Change,
    Json,
    argument,
    container,
    pod,
    static,
    the,
    variable,
    volume,
)

_HUB: Json = {"model": {"uri": "hf://owner/name"}}
_ADAPTER: Json = {"model": {"lora": {"adapters": [{"name": "one", "uri": "file:///models/a"}]}}}
_FINE_TUNED: Json = {"predictor": {"uri": "file:///models/p"}}


def _token(*path: str) -> Change:
    return Change(
        f"model.tokenSecretRef.{path[-1]}", "one", "two",
        variable("HF_TOKEN", "valueFrom", "secretKeyRef", *path, of="fetch"), ("one", "two"),
        restarts=True,
    )  # fmt: skip


MODEL = (
    Change("model.uri", "file:///models/m", "file:///models/n", argument("--model"),
           ("/models/m", "/models/n"), restarts=True),
    Change("model.name", "first", "second", argument("--served-model-name"),
           ("first", "second"), restarts=True),
    Change("model.revision", "main", "v2", argument("--revision", of="fetch"), ("main", "v2"),
           restarts=True),
    _token("name"),
    _token("key"),
    Change("model.cache.claimName", "one", "two",
           volume("models", "persistentVolumeClaim", "claimName"), ("one", "two"), restarts=True),
    Change("model.lora.maxAdapters", 2, 4, argument("--max-loras"), ("2", "4"), restarts=True,
           beside=_ADAPTER),
    Change("model.lora.maxRank", 8, 16, argument("--max-lora-rank"), ("8", "16"), restarts=True,
           beside=_ADAPTER),
    Change("model.lora.adapters[].name", "one", "two", argument("--lora-modules"),
           ("one=/models/a", "two=/models/a"), restarts=True),
    Change("model.lora.adapters[].uri", "file:///models/a", "file:///models/b",
           argument("--lora-modules"), ("a=/models/a", "a=/models/b"), restarts=True),
)  # fmt: skip

ENGINE = (
    Change("engine.image", "engine:1", "engine:2", container("main", "image"),
           ("engine:1", "engine:2"), restarts=True),
    Change("engine.args", ["--dtype=float32"], ["--dtype=float16"], argument("--dtype"),
           ("float32", "float16"), restarts=True),
    Change("engine.env[].name", "ONE", "TWO", variable("TWO", "name"), (None, "TWO"),
           restarts=True),
    Change("engine.env[].value", "1", "2", variable("a", "value"), ("1", "2"), restarts=True),
    Change("engine.resources", {"requests": {"cpu": "1"}}, {"requests": {"cpu": "2"}},
           container("main", "resources", "requests", "cpu"), ("1", "2"), restarts=True),
    Change("engine.gpuResource", "nvidia.com/gpu", "amd.com/gpu",
           container("main", "resources", "limits"),
           ({"nvidia.com/gpu": "1"}, {"amd.com/gpu": "1"}), restarts=True),
    Change("engine.maxNumSeqs", 8, 16, argument("--max-num-seqs"), ("8", "16"), restarts=True),
    Change("engine.maxModelLen", 1000, 2000, argument("--max-model-len"), ("1000", "2000"),
           restarts=True),
    Change("engine.startupTimeoutSeconds", 100, 200,
           container("main", "startupProbe", "failureThreshold"), (50, 100), restarts=True),
    Change("engine.allowedExtraArgs", ["a"], ["b"], static("engine", "allowed_extra_args"),
           (["a"], ["b"]), restarts=True),
    Change("parallelism.tensor", 1, 2, argument("--tensor-parallel-size"), (None, "2"),
           restarts=True),
    Change("parallelism.pipeline", 1, 2, argument("--pipeline-parallel-size"), (None, "2"),
           restarts=True),
    Change("parallelism.data", 1, 2, argument("--data-parallel-size"), (None, "2"),
           restarts=True),
)  # fmt: skip

PREDICTOR = (
    Change("predictor.kind", "Default", "FineTuned", static("predictor", "kind"),
           ("Default", "FineTuned"), restarts=True, beside=_FINE_TUNED),
    Change("predictor.uri", "file:///models/p", "file:///models/q", static("predictor", "uri"),
           ("file:///models/p", "file:///models/q"), restarts=True),
    Change("predictor.timeoutMilliseconds", 5, 10, static("predictor", "timeout_s"),
           (0.005, 0.01), restarts=True),
    Change("predictor.onlineLearning", "Enabled", "Disabled",
           static("predictor", "online_learning"), (True, False), restarts=True),
    Change("predictor.calibration.minSamples", 10, 20,
           static("predictor", "calibration", "min_samples"), (10, 20), restarts=True),
    Change("predictor.calibration.windowSamples", 3000, 4000,
           static("predictor", "calibration", "window_samples"), (3000, 4000), restarts=True),
    Change("predictor.resources", {"requests": {"cpu": "1"}}, {"requests": {"cpu": "2"}},
           container("sidecar", "resources", "requests", "cpu"), ("1", "2"), restarts=True),
)  # fmt: skip

DOORS = (
    Change("security.apiKeySecretRef.name", "one", "two",
           volume("api-keys", "secret", "secretName"), ("one", "two"), restarts=True),
    Change("security.apiKeySecretRef.key", "one", "two",
           volume("api-keys", "secret", "items", 0, "key"), ("one", "two"), restarts=True),
    Change("security.tlsSecretRef.name", "one", "two", volume("tls", "secret", "secretName"),
           ("one", "two"), restarts=True),
    Change("queue.fairness.tenantHeader", "x-one", "x-two", static("tenant_header"),
           ("x-one", "x-two"), restarts=True),
    Change("tracing.exporterEndpoint", "http://one:4317", "http://two:4317",
           argument("--otlp-traces-endpoint"), ("http://one:4317", "http://two:4317"),
           restarts=True),
    Change("tracing.exporter", "otlp", "otlp-http", static("tracing", "exporter"),
           ("otlp", "otlp-http"), restarts=True),
    Change("tracing.sampler", "always_on", "always_off", static("tracing", "sampler"),
           ("always_on", "always_off"), restarts=True),
)  # fmt: skip

TEMPLATE = (
    Change("template.metadata", {"labels": {"team": "a"}}, {"labels": {"team": "b"}},
           the("deployments", "spec", "template", "metadata", "labels", "team"), ("a", "b"),
           restarts=True),
    Change("template.spec", {"priorityClassName": "one"}, {"priorityClassName": "two"},
           pod("priorityClassName"), ("one", "two"), restarts=True),
    Change("drainTimeoutSeconds", 100, 200, pod("terminationGracePeriodSeconds"), (130, 230),
           restarts=True),
)  # fmt: skip

CHANGES = (*MODEL, *ENGINE, *PREDICTOR, *DOORS, *TEMPLATE)
