"""How models and adapters reach the engine: volumes, mounts, links and the download's container."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.manifests import SETTINGS, service
from llmservice_operator.desired import desired
from llmservice_operator.kube_json import Manifest

HUB = {"uri": "hf://org/model"}


def rendered(**spec: Any) -> dict[str, Manifest]:
    return {manifest["kind"]: manifest for manifest in desired(service(**spec), SETTINGS)}


def pod(**spec: Any) -> Manifest:
    return rendered(**spec)["Deployment"]["spec"]["template"]["spec"]


def engine(made: Manifest) -> Manifest:
    return made["containers"][0]


def fetch(made: Manifest) -> Manifest:
    (found,) = [each for each in made["initContainers"] if each["name"] == "fetch"]
    return found


def after(made: Manifest, flag: str) -> str:
    return engine(made)["args"][engine(made)["args"].index(flag) + 1]


def volumes(made: Manifest) -> dict[str, Manifest]:
    return {volume["name"]: volume for volume in made["volumes"]}


def mounts(container: Manifest) -> dict[str, Manifest]:
    return {mount["mountPath"]: mount for mount in container["volumeMounts"]}


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("hf://org/model", "/run/llmservice/model"),
        ("s3://bucket/key/model", "/run/llmservice/model"),
        ("oci://registry.example:5000/model:1", "/mnt/models"),
        ("oci://registry.example/model@sha256:0a#a/b", "/mnt/models/a/b"),
        ("pvc://claim/a/b", "/mnt/models/a/b"),
        ("file:///models/m", "/models/m"),
    ],
)
def test_the_engine_gets_a_directory_and_never_the_network(uri: str, path: str) -> None:
    made = pod(model={"uri": uri})
    assert after(made, "--model") == path
    assert {"name": "HF_HUB_OFFLINE", "value": "1"} in engine(made)["env"]
    assert all(
        mount.get("readOnly") or place in {"/tmp", "/dev/shm"}
        for place, mount in mounts(engine(made)).items()
    )


def test_a_download_runs_between_sidecar_and_engine() -> None:
    made = pod(model=HUB | {"revision": "v1"})
    assert [each["name"] for each in made["initContainers"]] == ["sidecar", "fetch"]
    assert fetch(made)["image"] == made["initContainers"][0]["image"]
    assert "--get=model=hf://org/model" in fetch(made)["args"]
    assert "--revision=v1" in fetch(made)["args"]
    assert volumes(made)["models"]["emptyDir"] == {}
    assert "fsGroup" not in made["securityContext"]
    assert "restartPolicy" not in fetch(made)


@pytest.mark.parametrize("uri", ["pvc://claim/m", "file:///m", "oci://registry.example/m"])
def test_what_is_not_downloaded_has_no_download(uri: str) -> None:
    made = pod(model={"uri": uri})
    assert [each["name"] for each in made["initContainers"]] == ["sidecar"]
    assert "delivery" not in volumes(made)


def test_only_the_download_sees_the_secret_and_only_it_writes_the_cache() -> None:
    made = pod(
        model=HUB
        | {"tokenSecretRef": {"name": "hub", "key": "token"}, "cache": {"claimName": "shared"}}
    )
    reference = {"name": "hub", "key": "token"}
    variable = {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": reference}}
    assert variable in fetch(made)["env"]
    others = [engine(made), made["initContainers"][0]]
    assert all(variable not in each["env"] for each in others)
    assert volumes(made)["models"] == {
        "name": "models",
        "persistentVolumeClaim": {"claimName": "shared"},
    }
    assert "readOnly" not in mounts(fetch(made))["/var/cache/llmservice"]
    assert mounts(engine(made))["/var/cache/llmservice"]["readOnly"]
    assert made["securityContext"]["fsGroup"] == 65532


def test_the_secret_of_a_bucket_is_a_credentials_file() -> None:
    made = pod(model={"uri": "s3://b/k", "tokenSecretRef": {"name": "s3", "key": "credentials"}})
    given = [entry["name"] for entry in fetch(made)["env"] if "secretKeyRef" in str(entry)]
    assert given == ["LLMSERVICE_S3_CREDENTIALS"]


def test_a_claim_is_made_where_a_size_is_given() -> None:
    cache = {"size": "50Gi", "storageClassName": "nfs"}
    made = rendered(model=HUB | {"cache": cache})
    claim = made["PersistentVolumeClaim"]
    assert claim["metadata"]["name"] == "svc-models"
    assert claim["metadata"]["ownerReferences"]
    assert claim["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "50Gi"}},
        "storageClassName": "nfs",
    }
    assert "PersistentVolumeClaim" not in rendered(model=HUB | {"cache": {"claimName": "a"}})


def test_a_claim_that_grows_changes_no_pod() -> None:
    def record(size: str) -> str:
        made = rendered(model=HUB | {"cache": {"size": size}})["Deployment"]
        return str(made["metadata"]["annotations"]["llmservice.dev/rendering"])

    assert record("1Gi") == record("2Gi")


def pin(**spec: Any) -> str:
    (found,) = [word for word in fetch(pod(**spec))["args"] if word.startswith("--pin=")]
    return found


def test_the_pin_moves_with_what_is_downloaded_and_with_nothing_else() -> None:
    assert pin(model=HUB) == pin(model=HUB, engine={"maxNumSeqs": 4}, replicas=3)
    moved = [HUB | {"revision": "v2"}, {"uri": "hf://org/other"}]
    assert len({pin(model=HUB), *(pin(model=model) for model in moved)}) == 3


LORA = {
    "adapters": [
        {"name": "b/sql", "uri": "hf://org/sql"},
        {"name": "a", "uri": "pvc://claim/adapters/a"},
    ]
}


def test_adapters_are_served_beside_the_model() -> None:
    model = {"uri": "pvc://claim/m", "lora": LORA}
    made = pod(model=model)
    words = engine(made)["args"]
    at = words.index("--lora-modules")
    assert words[at + 1 : at + 3] == [
        "a=/mnt/models/adapters/a", "b/sql=/run/llmservice/adapter-1"
    ]  # fmt: skip
    assert "--enable-lora" in words
    assert after(made, "--max-loras") == after(made, "--max-cpu-loras") == "2"
    assert "--max-lora-rank" not in words
    assert "--get=adapter-1=hf://org/sql" in fetch(made)["args"]
    config = rendered(model=model)["ConfigMap"]["data"]["static.json"]
    assert '"a"' in config
    assert '"b/sql"' in config


def test_a_bound_on_adapters_in_use_keeps_the_others_in_memory() -> None:
    many = [{"name": f"a{n}", "uri": f"file:///a/{n}"} for n in range(12)]
    made = pod(model={"uri": "file:///m", "lora": {"adapters": many, "maxRank": 64}})
    assert (after(made, "--max-loras"), after(made, "--max-cpu-loras")) == ("8", "12")
    assert after(made, "--max-lora-rank") == "64"


def test_a_claim_is_one_volume_however_often_it_is_named() -> None:
    made = pod(
        model={"uri": "pvc://store/m", "lora": LORA | {"adapters": [
            {"name": "a", "uri": "pvc://store/a"}, {"name": "c", "uri": "hf://org/c"},
        ]}, "cache": {"claimName": "store"}},
        predictor={"uri": "pvc://store/predictor"},
    )  # fmt: skip
    of_claims = [volume for volume in made["volumes"] if "persistentVolumeClaim" in volume]
    assert of_claims == [{"name": "model", "persistentVolumeClaim": {"claimName": "store"}}]
    assert mounts(engine(made))["/mnt/models"]["readOnly"]


def test_images_are_mounted_as_volumes() -> None:
    made = pod(
        model={
            "uri": "oci://registry.example/m:1#llm",
            "lora": {"adapters": [{"name": "a", "uri": "oci://registry.example/a:1"}]},
        },
        predictor={"kind": "FineTuned", "uri": "oci://registry.example/p:1#proxy"},
    )
    images = {name: each["image"] for name, each in volumes(made).items() if "image" in each}
    assert {name: image["reference"] for name, image in images.items()} == {
        "model": "registry.example/m:1",
        "adapter-0": "registry.example/a:1",
        "predictor": "registry.example/p:1",
    }
    assert "a=/mnt/adapters/adapter-0" in engine(made)["args"]
    assert mounts(made["initContainers"][0])["/mnt/predictor"]["name"] == "predictor"
