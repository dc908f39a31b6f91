"""Promises of the rendering that golden files show but do not say."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from fakes.manifests import IMAGES, SETTINGS, resource, service
from llmservice_api import names
from llmservice_api.sidecar_config import LiveConfig, StaticConfig
from llmservice_api.spec import SpecError
from llmservice_operator.desired import desired
from llmservice_operator.desired.config import live_config, static_hash
from llmservice_operator.kube_json import Manifest
from llmservice_operator.service import (
    Images,
    Service,
    parse_service,
    recorded_rendering,
    rendering,
)
from llmservice_operator.settings import OperatorSettings


def of_kind(made: tuple[Manifest, ...], kind: str) -> Manifest:
    return next(manifest for manifest in made if manifest["kind"] == kind)


def pod_of(wanted: Service, settings: OperatorSettings = SETTINGS) -> Manifest:
    spec: Manifest = of_kind(desired(wanted, settings), "Deployment")["spec"]["template"]["spec"]
    return spec


def engine_words(wanted: Service) -> list[str]:
    words: list[str] = pod_of(wanted)["containers"][0]["args"]
    return words


def test_operator_owned_flags_come_last_where_they_win() -> None:
    words = engine_words(service(engine={"args": ["--max-num-se=9"], "maxNumSeqs": 7}))
    assert words[0] == "--max-num-se=9"
    assert words[words.index("--max-num-seqs") + 1] == "7"


def test_a_cpu_flag_of_the_user_replaces_ours() -> None:
    words = engine_words(service(engine={"device": "CPU", "args": ["--kv_cache_memory_bytes=1G"]}))
    assert "--kv-cache-memory-bytes" not in words
    assert "--enforce-eager" in words


@pytest.mark.parametrize(("milliseconds", "seconds"), [(40, 0.04), (None, None)])
def test_the_time_per_token_is_wanted_in_seconds(
    milliseconds: int | None, seconds: float | None
) -> None:
    given = {} if milliseconds is None else {"targetTimePerOutputTokenMilliseconds": milliseconds}
    assert live_config(service(queue=given)).target_tpot_s == seconds


def test_a_cpu_service_asks_for_no_gpu() -> None:
    resources = pod_of(service(engine={"device": "CPU"}))["containers"][0]["resources"]
    assert resources == {}


def test_a_replica_asks_for_a_gpu_per_rank() -> None:
    wanted = service(parallelism={"tensor": 2, "pipeline": 2, "data": 2})
    assert pod_of(wanted)["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "8"}


def test_the_user_may_ask_for_another_number_of_gpus() -> None:
    given = {"limits": {"nvidia.com/gpu": "3"}, "requests": {"nvidia.com/gpu": "3"}}
    resources = pod_of(service(engine={"resources": given}))["containers"][0]["resources"]
    assert resources == given


def test_the_pod_outlives_its_drain() -> None:
    pod = pod_of(service(drainTimeoutSeconds=120))
    assert pod["terminationGracePeriodSeconds"] == 150
    hook = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert "127.0.0.1:9091/drain" in hook[-1]


def test_a_suspended_service_keeps_its_objects_and_no_pod() -> None:
    made = desired(service(suspend=True, replicas=4), SETTINGS)
    assert of_kind(made, "Deployment")["spec"]["replicas"] == 0
    assert len(made) == 6


def test_replicas_are_left_to_an_autoscaler() -> None:
    made = desired(service(scaling={"maxReplicas": 3}), SETTINGS)
    assert "replicas" not in of_kind(made, "Deployment")["spec"]


@pytest.mark.parametrize(
    "change", [{"model": {"uri": "unknown://a"}}, {"parallelism": {"nodes": 2}}]
)
def test_no_pods_are_made_of_what_this_version_cannot_run(change: dict[str, Any]) -> None:
    kinds = {manifest["kind"] for manifest in desired(service(**change), SETTINGS)}
    assert kinds == {"Service"}


def test_the_tail_weight_is_live_and_moves_no_pod() -> None:
    before, after = service(), service(queue={"tailWeightPercent": 50})
    assert static_hash(before) == static_hash(after)
    live = of_kind(desired(after, SETTINGS), "ConfigMap")["data"][names.LIVE_CONFIG_FILE]
    assert msgspec.json.decode(live, type=LiveConfig).tail_weight == 0.5


def test_the_sampling_ratio_is_live_and_moves_no_pod() -> None:
    before, after = (service(tracing={"samplerArg": ratio}) for ratio in ("0.1", "0.9"))
    assert pod_of(before) == pod_of(after)
    assert static_hash(before) == static_hash(after)


def test_the_slots_change_the_hash_on_the_pod_template() -> None:
    assert static_hash(service()) != static_hash(service(engine={"maxNumSeqs": 4}))


def test_the_configuration_decodes_in_the_sidecar() -> None:
    data = of_kind(desired(service(parallelism={"data": 2}), SETTINGS), "ConfigMap")["data"]
    static = msgspec.json.decode(data[names.STATIC_CONFIG_FILE], type=StaticConfig, strict=True)
    assert static.engine.slots == 256
    assert static.model.name == "svc"


def test_the_disabled_predictor_is_told_to_load_nothing() -> None:
    data = of_kind(desired(service(predictor={"mode": "Disabled"}), SETTINGS), "ConfigMap")["data"]
    assert json.loads(data[names.STATIC_CONFIG_FILE])["predictor_enabled"] is False


NEWER = OperatorSettings(images=Images(sidecar="sidecar:2", engine="engine:2", engine_cpu="cpu:2"))


def after_first_apply(**spec: Any) -> Service:
    """The service as it is read again, after the operator of SETTINGS has applied it."""
    first = of_kind(desired(service(), SETTINGS), "Deployment")
    return parse_service(resource(**spec), recorded=recorded_rendering(first))


def test_a_newer_operator_keeps_the_images_of_a_running_workload() -> None:
    assert pod_of(after_first_apply(), NEWER) == pod_of(service(), SETTINGS)


@pytest.mark.parametrize(
    "change",
    [
        {"replicas": 5},
        {"queue": {"tailWeightPercent": 50, "policy": "FCFS"}},
        {"predictor": {"mode": "Shadow"}},
        {"disruptionBudget": {"maxUnavailable": 2}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_live_change_keeps_the_images_too(change: dict[str, Any]) -> None:
    assert rendering(after_first_apply(**change), NEWER.images).sidecar_image == "sidecar:1"


def test_a_change_that_restarts_pods_takes_the_newer_images() -> None:
    changed = after_first_apply(engine={"maxNumSeqs": 16})
    assert rendering(changed, NEWER.images).sidecar_image == "sidecar:2"


def test_an_unreadable_record_is_replaced() -> None:
    broken = {"metadata": {"annotations": {names.ANNOTATION_RENDERING: "{"}}}
    assert recorded_rendering(broken) is None


def test_a_workload_without_a_record_gets_one() -> None:
    assert recorded_rendering(None) is None
    assert rendering(service(engine={"device": "CPU"}), IMAGES).engine_image == "engine-cpu:1"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        pytest.param(
            {"spec": {"containers": [{"name": "main", "$patch": "delete"}]}},
            "'main' must stay",
            id="the engine is taken away",
        ),
        pytest.param(
            {"spec": {"initContainers": None}},
            "'sidecar' must stay",
            id="the sidecar is taken away",
        ),
        pytest.param(
            {"metadata": {"labels": {names.LABEL_NAME: "other"}}}, "must stay", id="another label"
        ),
        pytest.param({"spec": {"$patch": "replace"}}, "not supported", id="an unknown directive"),
        pytest.param(
            {"spec": {"containers": [{"image": "x"}]}}, "needs 'name'", id="an entry without a key"
        ),
    ],
)
def test_an_overlay_that_breaks_the_pod_is_refused(template: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        desired(service(template=template), SETTINGS)


def test_an_overlay_does_not_change_what_it_is_laid_over() -> None:
    plain = pod_of(service())
    pod_of(service(template={"spec": {"containers": [{"name": "main", "image": "mine"}]}}))
    assert pod_of(service()) == plain


def test_pods_get_no_api_token() -> None:
    made = desired(service(), SETTINGS)
    assert of_kind(made, "ServiceAccount")["automountServiceAccountToken"] is False
    assert pod_of(service())["automountServiceAccountToken"] is False


def test_every_object_is_owned_so_that_deletion_leaves_nothing() -> None:
    for manifest in desired(service(), SETTINGS):
        owners = manifest["metadata"]["ownerReferences"]
        assert [owner["uid"] for owner in owners] == ["uid-svc"]
