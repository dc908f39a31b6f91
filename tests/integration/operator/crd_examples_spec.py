"""Bad examples of the rules of the CRD, and good ones that a careless rule would refuse."""

from __future__ import annotations

from integration.operator.crd_examples import bad

ARGS = ("spec.engine.args", "names a flag that the operator owns")
URI = ("spec.model.uri", "must be one of")
NAME = ("", "metadata.name must be a DNS label")
ROLLOUT = "spec.rolloutStrategy"
SHARE = "must be an integer of 0 or more, or a percentage"

BAD = (
    bad("a name of 41 characters", *NAME, "metadata.name", name="a" * 41),
    bad("a name with a dot", *NAME, "metadata.name", name="a.b"),
    bad("a name that starts with a digit", *NAME, "metadata.name", name="1a"),
    bad(
        "replicas beside scaling", "spec", "spec.replicas and spec.scaling", "spec.replicas",
        replicas=2, scaling={"maxReplicas": 3},
    ),
    bad(
        "more in flight than slots", "spec", "spec.queue.maxConcurrency must not exceed",
        "spec.queue.maxConcurrency", engine={"maxNumSeqs": 4}, queue={"maxConcurrency": 5},
    ),
    bad(
        "more in flight than slots of two ranks", "spec",
        "spec.queue.maxConcurrency must not exceed", "spec.queue.maxConcurrency",
        engine={"maxNumSeqs": 4}, parallelism={"data": 2}, queue={"maxConcurrency": 9},
    ),
    bad(
        "a class with more in flight than the service", "spec",
        "spec.queue.priorityLevels[].maxConcurrency must not", "spec.queue.priorityLevels",
        queue={"maxConcurrency": 8,
               "priorityLevels": [{"name": "a", "value": 1, "maxConcurrency": 9}]},
    ),
    bad(
        "a class with more in flight than slots", "spec",
        "spec.queue.priorityLevels[].maxConcurrency must not", "spec.queue.priorityLevels",
        engine={"maxNumSeqs": 4},
        queue={"priorityLevels": [{"name": "a", "value": 1, "maxConcurrency": 5}]},
    ),
    bad(
        "two classes of the same value", "spec.queue.priorityLevels", "values must differ",
        "spec.queue.priorityLevels",
        queue={"priorityLevels": [{"name": "a", "value": 1}, {"name": "b", "value": 1}]},
    ),
    bad(
        "promotion after eviction", "spec", "spec.queue.promoteAfterSeconds must be less",
        "spec.queue.promoteAfterSeconds",
        queue={"promoteAfterSeconds": 600},
    ),
    bad(
        "tensor parallelism on CPU", "spec", "spec.parallelism.tensor and spec.parallelism.nodes",
        "spec.parallelism", engine={"device": "CPU"}, parallelism={"tensor": 2},
    ),
    bad(
        "two nodes on CPU", "spec", "spec.parallelism.tensor and spec.parallelism.nodes",
        "spec.parallelism", engine={"device": "CPU"}, parallelism={"nodes": 2},
    ),
    bad(
        "GPUs that nodes do not divide", "spec", "spec.parallelism.nodes must divide",
        "spec.parallelism.nodes", parallelism={"tensor": 4, "nodes": 3},
    ),
    bad(
        "ranks that nodes do not divide", "spec", "spec.parallelism.data must be a multiple",
        "spec.parallelism.data", parallelism={"tensor": 2, "data": 3, "nodes": 2},
    ),
    bad(
        "more samples needed than kept", "spec", "spec.predictor.calibration.minSamples",
        "spec.predictor.calibration.minSamples",
        predictor={"calibration": {"minSamples": 300, "windowSamples": 200}},
    ),
    bad(
        "more samples needed than kept by default", "spec",
        "spec.predictor.calibration.minSamples", "spec.predictor.calibration.minSamples",
        predictor={"calibration": {"minSamples": 3000}},
    ),
    bad(
        "a rollout that can replace nothing", "spec", "spec.rolloutStrategy.maxUnavailable and",
        "spec.rolloutStrategy.maxSurge", rolloutStrategy={"maxUnavailable": 0, "maxSurge": "0%"},
    ),
    bad("a scheme nobody knows", *URI, "spec.model.uri", model={"uri": "ftp://host/model"}),
    bad("a path without a scheme", *URI, "spec.model.uri", model={"uri": "/models/m"}),
    bad("a hub name without an owner", *URI, "spec.model.uri", model={"uri": "hf://model"}),
    bad("a relative file", *URI, "spec.model.uri", model={"uri": "file://models/m"}),
    bad(
        "a path that climbs out", "spec.model.uri", "must not contain '..'", "spec.model.uri",
        model={"uri": "pvc://claim/../other"},
    ),
    bad("an owned flag", *ARGS, "spec.engine.args", engine={"args": ["--max-num-seqs=8"]}),
    bad("an owned flag in two words", *ARGS, "spec.engine.args", engine={"args": ["--port", "1"]}),
    bad("an owned flag with underscores", *ARGS, "spec.engine.args",
        engine={"args": ["--max_num_seqs=8"]}),
    bad("an owned flag after a good one", *ARGS, "spec.engine.args",
        engine={"args": ["--dtype=float32", "-tp", "2"]}),
    bad(
        "another device", "spec.engine.device", "spec.engine.device is immutable",
        "spec.engine.device", before={"engine": {"device": "GPU"}}, engine={"device": "CPU"},
    ),
    bad(
        "another number of nodes", "spec.parallelism.nodes", "spec.parallelism.nodes is immutable",
        "spec.parallelism.nodes", before={"parallelism": {"nodes": 1}}, parallelism={"nodes": 2},
    ),
    bad(
        "fewest above most", "spec.scaling", "spec.scaling.minReplicas must not exceed",
        "spec.scaling.minReplicas", scaling={"minReplicas": 4, "maxReplicas": 3},
    ),
    bad(
        "a parameter of another policy", "spec.queue", "spec.queue.policyParameters has a key",
        "spec.queue.policyParameters",
        queue={"policy": "LTR", "policyParameters": {"agingSeconds": "3"}},
    ),
    bad(
        "half an iteration", "spec.queue.policyParameters", "seed and starvationIterations",
        "spec.queue.policyParameters",
        queue={"policy": "LTR", "policyParameters": {"starvationIterations": "0.5"}},
    ),
    bad(
        "aging in no time", "spec.queue.policyParameters", "agingSeconds must be more than 0",
        "spec.queue.policyParameters",
        queue={"policy": "Gimbal", "policyParameters": {"agingSeconds": "0.0"}},
    ),
    bad(
        "a predictor from elsewhere", "spec.predictor.uri",
        "must be pvc://claim/path, oci://image, or file:///path",
        "spec.predictor.uri", predictor={"uri": "s3://bucket/state"},
    ),
    bad(
        "a predictor that climbs out", "spec.predictor.uri", "must not contain '..'",
        "spec.predictor.uri", predictor={"uri": "pvc://claim/../other"},
    ),
    bad(
        "a predictor that climbs out encoded", "spec.predictor.uri", "must not contain '..'",
        "spec.predictor.uri", predictor={"uri": "file:///models/%2E%2e/etc"},
    ),
    bad(
        "a predictor with a fragment", "spec.predictor.uri", "must not contain '?', nor '#'",
        "spec.predictor.uri", predictor={"uri": "pvc://claim/a#b"},
    ),
    bad("a predictor nowhere", "spec.predictor", "kind FineTuned", "spec.predictor",
        predictor={"kind": "FineTuned"}),
    bad(
        "spans to a bare host", "spec.tracing.exporterEndpoint", "must be an http:// or https://",
        "spec.tracing.exporterEndpoint", tracing={"exporterEndpoint": "collector:4317"},
    ),
    bad("a disruption of 101 %", "spec.disruptionBudget.maxUnavailable", SHARE,
        "spec.disruptionBudget.maxUnavailable", disruptionBudget={"maxUnavailable": "101%"}),
    bad("a negative disruption", "spec.disruptionBudget.maxUnavailable", SHARE,
        "spec.disruptionBudget.maxUnavailable", disruptionBudget={"maxUnavailable": -1}),
    bad("a rollout that may miss a word", f"{ROLLOUT}.maxUnavailable", SHARE,
        f"{ROLLOUT}.maxUnavailable", rolloutStrategy={"maxUnavailable": "some"}),
    bad("a surge of minus one", f"{ROLLOUT}.maxSurge", SHARE, f"{ROLLOUT}.maxSurge",
        rolloutStrategy={"maxSurge": -1, "maxUnavailable": 1}),
)  # fmt: skip

GOOD = {
    "a parameter of its policy": {
        "queue": {"policy": "Gimbal", "policyParameters": {"agingSeconds": "2.5"}}
    },
    "classes with and without caps": {
        "queue": {
            "promoteAfterSeconds": 599,
            "priorityLevels": [
                {"name": "interactive", "value": 100, "maxConcurrency": 128},
                {"name": "batch-2.a_b", "value": -100},
            ],
        }
    },
    "all in flight": {"engine": {"maxNumSeqs": 4}, "queue": {"maxConcurrency": 4}},
    "other flags": {"engine": {"args": ["--dtype", "float32", "--enable-prefix-caching"]}},
    "a flag's value that looks like an owned name": {
        "engine": {"args": ["--quantization", "model"]}
    },
    "two data parallel ranks on each of two nodes": {"parallelism": {"data": 4, "nodes": 2}},
    "a data parallel rank on two nodes": {"parallelism": {"tensor": 4, "data": 2, "nodes": 4}},
    "scaling alone": {"scaling": {"minReplicas": 0, "maxReplicas": 1}},
    "shares in percent": {"rolloutStrategy": {"maxUnavailable": "100%", "maxSurge": "0%"}},
    "a predictor on a claim": {"predictor": {"kind": "FineTuned", "uri": "pvc://claim/proxy"}},
    "a claim without a path": {"model": {"uri": "pvc://claim"}},
    "a hub model": {"model": {"uri": "hf://owner/name"}},
}
