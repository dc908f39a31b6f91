"""Cluster-wide defaults for what a service leaves out. Read once, at the operator's start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import yaml
from llmservice_api.spec import JsonObject, Spec, Tracing
from msgspec import Meta, structs

Url = Annotated[str, Meta(pattern="^https?://")]
Share = Annotated[str, Meta(pattern=r"^(0(\.[0-9]+)?|1(\.0+)?)$")]
Quantities = dict[str, int | float | str]


class DefaultsError(ValueError):
    """The file cannot be used; the message names the file, the path in it and what is allowed."""


class _Strict(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename="camel",
    omit_defaults=True,
):
    """Base: immutable, unknown fields refused, what is absent stays absent when written."""


class DefaultResources(_Strict, frozen=True):
    """Requests and limits of a container, as in a pod."""

    requests: Quantities | None = None
    limits: Quantities | None = None


class DefaultTracing(_Strict, frozen=True):
    """Where spans go; the fields are those of `spec.tracing`."""

    exporter_endpoint: Url
    exporter: Literal["otlp", "otlp-http"] | None = None
    sampler: (
        Literal[
            "always_on",
            "always_off",
            "traceidratio",
            "parentbased_always_on",
            "parentbased_always_off",
            "parentbased_traceidratio",
        ]
        | None
    ) = None
    sampler_arg: Share | None = None


class Defaults(_Strict, frozen=True):
    """What applies where a spec leaves the field out."""

    engine_resources: DefaultResources | None = None
    sidecar_resources: DefaultResources | None = None
    tracing: DefaultTracing | None = None

    def completed(self, spec: Spec) -> Spec:
        """The spec with these in the fields that it leaves out.

        `spec.tracing` with an endpoint, or with exporter none, is the service's own as a whole.
        """
        engine, predictor = spec.engine, spec.predictor
        if engine.resources is None and self.engine_resources:
            engine = structs.replace(engine, resources=_plain(self.engine_resources))
        if predictor.resources is None and self.sidecar_resources:
            predictor = structs.replace(predictor, resources=_plain(self.sidecar_resources))
        tracing = self._tracing(spec.tracing)
        return structs.replace(spec, engine=engine, predictor=predictor, tracing=tracing)

    def _tracing(self, given: Tracing | None) -> Tracing | None:
        if self.tracing is None:
            return given
        if given is not None and (given.exporter_endpoint or given.exporter == "none"):
            return given
        default = {
            name: value for name, value in structs.asdict(self.tracing).items() if value is not None
        }
        if given is not None:
            # The API server has filled in its sampler: it is the service's word by now.
            default |= {"sampler": given.sampler, "sampler_arg": given.sampler_arg}
        return Tracing(**default)


NO_DEFAULTS: Final = Defaults()


def read_defaults(path: Path) -> Defaults:
    """The defaults in a JSON or YAML file. Raises DefaultsError; an empty file has none."""
    try:
        content: Any = yaml.safe_load(path.read_bytes())
        return msgspec.convert({} if content is None else content, type=Defaults)
    except OSError as error:
        raise DefaultsError(f"{path}: cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise DefaultsError(f"{path}: is neither JSON nor YAML: {error}") from error
    except msgspec.ValidationError as error:
        raise DefaultsError(f"{path}: {error}; allowed: {_ALLOWED}") from error


_ALLOWED: Final = (
    "engineResources and sidecarResources {requests, limits}, "
    "tracing {exporterEndpoint, exporter, sampler, samplerArg}"
)


def _plain(resources: DefaultResources) -> JsonObject:
    plain: JsonObject = msgspec.to_builtins(resources)
    return plain
