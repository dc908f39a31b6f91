"""Bad and good examples of `spec.model`: sources, cache, adapters."""

from __future__ import annotations

from typing import Any

from integration.operator.crd_examples import Json, bad

HUB = {"uri": "hf://owner/name"}
TOKEN = {"name": "hub", "key": "token"}
FILE = {"uri": "file:///models/m"}


def adapters(*given: tuple[str, str]) -> Json:
    return {"lora": {"adapters": [{"name": name, "uri": uri} for name, uri in given]}}


def cached(**cache: Any) -> Json:
    return HUB | {"cache": cache}


BAD = (
    bad("a revision of a claim", "spec.model", "spec.model.revision is for hf:// only",
        "spec.model.revision", model={"uri": "pvc://claim/m", "revision": "main"}),
    bad("a revision that climbs out", "spec.model.revision", "must not contain '..'",
        "spec.model.revision", model=HUB | {"revision": "../main"}),
    bad("a token for a file", "spec.model", "spec.model.tokenSecretRef is for hf:// and s3:// only",
        "spec.model.tokenSecretRef", model=FILE | {"tokenSecretRef": TOKEN}),
    bad("a cache for a file", "spec.model", "spec.model.cache is for hf:// and s3:// only",
        "spec.model.cache", model=FILE | {"cache": {"claimName": "a"}}),
    bad("an adapter with the model's name", "spec.model", "an adapter must not have the name",
        "spec.model.lora.adapters",
        model=FILE | {"name": "llama"} | adapters(("llama", "file:///a"))),
    bad("a cache of two kinds", "spec.model.cache", "must have either claimName",
        "spec.model.cache", model=cached(claimName="a", size="1Gi")),
    bad("a class without a size", "spec.model.cache",
        "spec.model.cache.storageClassName needs size", "spec.model.cache.storageClassName",
        model=cached(claimName="a", storageClassName="nfs")),
    bad("another class of a claim that exists", "spec.model.cache",
        "storageClassName and accessModes of a claim that exists", "spec.model.cache",
        model=cached(size="1Gi", storageClassName="b"),
        before={"model": cached(size="1Gi", storageClassName="a")}),
    bad("a smaller claim", "spec.model.cache", "must not shrink", "spec.model.cache.size",
        model=cached(size="999Mi"), before={"model": cached(size="1Gi")}),
    bad("a size that is none", "spec.model.cache.size", "must be a quantity above 0",
        "spec.model.cache.size", model=cached(size="much")),
    bad("a rank that vLLM does not know", "spec.model.lora.maxRank",
        "must be one of the ranks that vLLM knows", "spec.model.lora.maxRank",
        model=FILE | {"lora": {"maxRank": 24}}),
    bad("an adapter's name with a space", "spec.model.lora.adapters[].name",
        "must be letters, digits", "spec.model.lora.adapters[0].name",
        model=FILE | adapters(("a b", "file:///a"))),
    bad("an adapter of an unknown scheme", "spec.model.lora.adapters[].uri", "must be one of",
        "spec.model.lora.adapters[0].uri", model=FILE | adapters(("a", "git://host/a"))),
    bad("an adapter that climbs out", "spec.model.lora.adapters[].uri", "must not contain '..'",
        "spec.model.lora.adapters[0].uri", model=FILE | adapters(("a", "pvc://claim/../b"))),
)  # fmt: skip

GOOD: dict[str, Json] = {
    "a hub model with all there is": {
        "model": cached(size="100Gi", storageClassName="nfs", accessModes=["ReadWriteOnce"])
        | {"revision": "refs/pr/4", "tokenSecretRef": TOKEN}
    },
    "an existing claim as a cache": {"model": cached(claimName="models")},
    "a key of a bucket": {"model": {"uri": "s3://models/llm/tiny", "tokenSecretRef": TOKEN}},
    "a directory of an image": {"model": {"uri": "oci://registry.example:5000/m@sha256:0a#llm"}},
    "adapters of every scheme": {
        "model": FILE
        | {"tokenSecretRef": TOKEN, "cache": {"claimName": "models"}}
        | adapters(
            ("team/sql:1", "hf://owner/sql"),
            ("b", "s3://bucket/b"),
            ("c", "oci://registry.example/c"),
            ("d", "pvc://claim/d"),
            ("e", "file:///adapters/e"),
        )
    },
    "a predictor in an image": {
        "predictor": {"kind": "FineTuned", "uri": "oci://registry.example/proxy:1#proxy"}
    },
}
