"""Every rule of the CRD, on a real API server: a bad example is refused with the field's path."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.controlplane import ControlPlane

CRD = Path(__file__).parents[3] / "crds" / "llmservice.yaml"
EXAMPLES = sorted((CRD.parents[1] / "examples").glob("*.yaml"))
SCHEMA: dict[str, Any] = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bad:
    """A spec that one rule refuses. `rule`: where the rule stands and how its message begins."""

    id: str
    rule: tuple[str, str]
    names: str  # what the refusal must name
    spec: Json
    before: Json | None = None  # for rules about a change: what was there
    name: str = "svc"


def bad(id: str, at: str, message: str, names: str, **more: Any) -> Bad:  # noqa: A002 - pytest's word
    name = more.pop("name", "svc")
    before = more.pop("before", None)
    return Bad(id=id, rule=(at, message), names=names, spec=more, before=before, name=name)


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
        "a predictor from elsewhere", "spec.predictor.uri", "must be pvc://claim/path, or file:///path",
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
        "a predictor with a fragment", "spec.predictor.uri", "must not contain '?' or '#'",
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
    "scaling alone": {"scaling": {"minReplicas": 0, "maxReplicas": 1}},
    "shares in percent": {"rolloutStrategy": {"maxUnavailable": "100%", "maxSurge": "0%"}},
    "a predictor on a claim": {"predictor": {"kind": "FineTuned", "uri": "pvc://claim/proxy"}},
    "a claim without a path": {"model": {"uri": "pvc://claim"}},
    "a hub model": {"model": {"uri": "hf://owner/name"}},
}


def rules(schema: Json, at: str = "") -> Iterator[tuple[str, str]]:
    """Where every rule of the schema stands, and its message."""
    for rule in schema.get("x-kubernetes-validations", ()):
        yield at, rule["message"]
    for key, child in schema.get("properties", {}).items():
        yield from rules(child, f"{at}.{key}".lstrip("."))
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from rules(schema[key], f"{at}[]")


def manifest(spec: Json, *, name: str = "svc") -> str:
    body = {"model": {"uri": "file:///models/m"}, **spec}
    return yaml.safe_dump(
        {
            "apiVersion": "llmservice.dev/v1alpha1",
            "kind": "LLMService",
            "metadata": {"name": name},
            "spec": body,
        }
    )


def refusal(plane: ControlPlane, *arguments: str, stdin: str | None = None) -> str:
    """What the API server says to a command that it must refuse."""
    with pytest.raises(subprocess.CalledProcessError) as refused:
        plane.kubectl(*arguments, stdin=stdin)
    return str(refused.value.stderr)


def test_table_has_a_bad_example_of_every_rule() -> None:
    written = list(rules(SCHEMA["openAPIV3Schema"]))
    assert written
    missing = [
        (at, message)
        for at, message in written
        if not any(at == row.rule[0] and message.startswith(row.rule[1]) for row in BAD)
    ]
    assert not missing


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in BAD])
def test_bad_example_is_refused_by_its_rule(plane: ControlPlane, namespace: str, row: Bad) -> None:
    in_namespace = ("-n", namespace, "-f", "-")
    if row.before is not None:
        plane.kubectl("create", *in_namespace, stdin=manifest(row.before))
    verb = "create" if row.before is None else "replace"
    said = refusal(
        plane, verb, "--dry-run=server", *in_namespace, stdin=manifest(row.spec, name=row.name)
    )
    assert row.rule[1] in said
    assert row.names in said


@pytest.mark.parametrize("spec", [pytest.param(spec, id=told) for told, spec in GOOD.items()])
def test_good_example_is_accepted(plane: ControlPlane, spec: Json) -> None:
    plane.kubectl("create", "--dry-run=server", "-f", "-", stdin=manifest(spec))


def test_unknown_field_is_refused_with_its_path(plane: ControlPlane) -> None:
    said = refusal(
        plane, "create", "--dry-run=server", "-f", "-", stdin=manifest({"queue": {"polcy": "SSJF"}})
    )
    assert "spec.queue.polcy" in said


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"engine": {"maxNumSeqs": 0}}, "spec.engine.maxNumSeqs"),
        ({"engine": {"maxNumSeqs": 4097}}, "spec.engine.maxNumSeqs"),
        ({"queue": {"policy": "Fastest"}}, "spec.queue.policy"),
        (
            {"queue": {"priorityLevels": [{"name": "a", "value": 1}, {"name": "a", "value": 2}]}},
            "spec.queue.priorityLevels[1]",
        ),
        (
            {"queue": {"priorityLevels": [{"name": "a b", "value": 1}]}},
            "spec.queue.priorityLevels[0].name",
        ),
        ({"predictor": {"mode": "On"}}, "spec.predictor.mode"),
        ({"replicas": -1}, "spec.replicas"),
        ({"model": {"name": "without a uri"}}, "spec.model.uri"),
        ({"scaling": {"minReplicas": 1}}, "spec.scaling.maxReplicas"),
        ({"tracing": {"samplerArg": "1.5"}}, "spec.tracing.samplerArg"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_value_out_of_bounds_is_refused_with_its_path(
    plane: ControlPlane, spec: Json, path: str
) -> None:
    said = refusal(plane, "create", "--dry-run=server", "-f", "-", stdin=manifest(spec))
    assert path in said


def test_scale_is_refused_where_scaling_decides(plane: ControlPlane, namespace: str) -> None:
    plane.kubectl("create", "-n", namespace, "-f", "-",
                  stdin=manifest({"scaling": {"maxReplicas": 3}}))  # fmt: skip
    said = refusal(plane, "scale", "llmsvc/svc", "--replicas=2", "-n", namespace)
    assert "spec.replicas and spec.scaling exclude each other" in said


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in EXAMPLES])
def test_example_is_accepted(plane: ControlPlane, path: Path) -> None:
    plane.kubectl("create", "--dry-run=server", "-f", str(path))


def test_there_are_examples() -> None:
    assert EXAMPLES
