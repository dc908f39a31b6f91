"""`spec.template` laid over the rendered pod, by the rules of a strategic merge patch."""

from __future__ import annotations

from typing import Any, Final, cast

from llmservice_api import names
from llmservice_api.spec import PodTemplate, SpecError

from llmservice_operator.kube_json import Manifest, section

# Kubernetes' merge keys of the lists in a pod; a list that is not here is replaced as a whole.
_MERGE_KEYS: Final = {
    "containers": "name",
    "env": "name",
    "ephemeralContainers": "name",
    "hostAliases": "ip",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ports": "containerPort",
    "resourceClaims": "name",
    "topologySpreadConstraints": "topologyKey",
    "volumeDevices": "devicePath",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
_DIRECTIVE: Final = "$patch"


def overlay(template: Manifest, given: PodTemplate | None) -> Manifest:
    """The template with the user's overlay. null removes a field, `$patch: delete` a list entry.

    Raises SpecError when the overlay takes away what the operator needs: its containers, the
    labels that pods are selected by, the configuration's hash.
    """
    if given is None:
        return template
    merged = _merge(template, {"metadata": given.metadata, "spec": given.spec})
    _check(template, merged)
    return merged


def _merge(base: Manifest, patch: Manifest) -> Manifest:
    merged = dict(base)
    for key, value in patch.items():
        if key.startswith("$"):
            raise SpecError(
                f"spec.template: {key}: {value} is not supported; "
                "null removes a field, `$patch: delete` an entry of a list"
            )
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            child = cast("Manifest", value)
            below = merged.get(key)
            merged[key] = _merge(cast("Manifest", below) if isinstance(below, dict) else {}, child)
        elif isinstance(value, list) and key in _MERGE_KEYS:
            entries = cast("list[Any]", value)
            merged[key] = _merge_list(merged.get(key) or [], entries, field=key)
        else:
            merged[key] = value
    return merged


def _merge_list(base: list[Any], patch: list[Any], *, field: str) -> list[Any]:
    merge_key = _MERGE_KEYS[field]
    merged = list(base)
    for entry in patch:
        if not isinstance(entry, dict) or merge_key not in entry:
            raise SpecError(f"spec.template: every entry of {field} needs {merge_key!r}")
        item = cast("Manifest", entry)
        place = _index(merged, merge_key, item[merge_key])
        if item.get(_DIRECTIVE) == "delete":
            if place is not None:
                del merged[place]
        elif place is None:
            merged.append(_merge({}, item))
        else:
            merged[place] = _merge(merged[place], item)
    return merged


def _index(entries: list[Any], merge_key: str, value: Any) -> int | None:
    places = (index for index, entry in enumerate(entries) if entry.get(merge_key) == value)
    return next(places, None)


def _check(before: Manifest, after: Manifest) -> None:
    needed = {"containers": names.CONTAINER_ENGINE, "initContainers": names.CONTAINER_SIDECAR}
    for field, name in needed.items():
        if _index(after["spec"].get(field) or [], "name", name) is None:
            raise SpecError(f"spec.template.spec.{field}: the container {name!r} must stay")
    kept = {
        "labels": (names.LABEL_NAME,),
        "annotations": (names.ANNOTATION_STATIC_HASH,),
    }
    for field, keys in kept.items():
        for key in keys:
            ours = before["metadata"][field][key]
            if section(after, "metadata", field).get(key) != ours:
                raise SpecError(f"spec.template.metadata.{field}: {key!r} must stay {ours!r}")
