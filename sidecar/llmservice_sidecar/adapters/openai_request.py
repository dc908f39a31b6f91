"""OpenAI bodies to inference calls by an allow-list: nothing unknown reaches the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from llmservice_api.sidecar_config import ModelConfig

from llmservice_sidecar.adapters import openai_fields as fields
from llmservice_sidecar.adapters.openai_prompt import (
    Prompt,
    chat_prompt,
    plain_prompt,
    tokens_beside,
)
from llmservice_sidecar.core.errors import InvalidRequest
from llmservice_sidecar.core.request import RequestId
from llmservice_sidecar.runtime.call import InferenceCall
from llmservice_sidecar.runtime.ports import PredictionQuery

MAX_DEPTH: Final = 64
MAX_ANSWERS: Final = 4096  # n x prompts, before the gate compares it with its slots
_LONGEST_EFFORT: Final = 16  # characters: "minimal" is the longest word in use
# Arguments of chat templates that turn thinking on and off: Qwen's and DeepSeek's.
_THINKING_SWITCHES: Final = ("enable_thinking", "thinking")
_TOOLS: Final = ("tools", "functions")

Body = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """What a door knows of a call beside its body."""

    request_id: RequestId
    timeout_s: float | None = None
    tenant: str | None = None
    priority: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One scheduled OpenAI endpoint."""

    name: str  # PredictionQuery.endpoint
    operation: str  # gen_ai.operation.name
    allowed: Mapping[str, fields.Kind]
    required: str
    limits: Sequence[str]  # fields that bound the answer's tokens, the stronger first
    prompt: Callable[[Body], Prompt]


ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    "/v1/chat/completions": Endpoint(
        name="chat",
        operation="chat",
        allowed=fields.CHAT_FIELDS,
        required="messages",
        limits=("max_completion_tokens", "max_tokens"),
        prompt=lambda body: chat_prompt(body["messages"], param="messages"),
    ),
    "/v1/completions": Endpoint(
        name="completions",
        operation="text_completion",
        allowed=fields.COMPLETION_FIELDS,
        required="prompt",
        limits=("max_tokens",),
        prompt=lambda body: plain_prompt(body["prompt"]),
    ),
    "/v1/responses": Endpoint(
        name="responses",
        operation="chat",
        allowed=fields.RESPONSE_FIELDS,
        required="input",
        limits=("max_output_tokens",),
        prompt=lambda body: chat_prompt(
            body["input"], param="input", before=body.get("instructions")
        ),
    ),
}


class OpenAIRequests:
    """Validates bodies for one served model and its adapters."""

    def __init__(
        self,
        *,
        model: ModelConfig,
        allowed_extra_args: Sequence[str],
        max_model_len: int | None = None,
    ) -> None:
        self._model = model.name
        self._models = frozenset((model.name, *model.adapters))
        self._extra_args = frozenset(allowed_extra_args)
        self._max_model_len = max_model_len

    def parse(self, path: str, body: object, context: CallContext) -> InferenceCall:
        """The call that `body` (a decoded JSON value) asks for at an OpenAI `path`.

        Raises InvalidRequest naming the field (code `unsupported_parameter`, `invalid_type`,
        `invalid_value`, `missing_required_parameter` or `model_not_found`).
        """
        endpoint = ENDPOINTS[path]
        checked = self._checked(endpoint, body)
        model = cast("str | None", checked.get("model")) or self._model
        if model not in self._models:
            raise InvalidRequest(
                f"The model `{model}` does not exist.", param="model", code="model_not_found"
            )
        prompt = endpoint.prompt(checked)
        tools = _tools(checked)
        if tools.offered:
            other_tokens = prompt.other_tokens + tokens_beside(checked, _TOOLS)
            prompt = replace(prompt, other_tokens=other_tokens)
        return InferenceCall(
            request_id=context.request_id,
            path=path,
            body=checked,
            query=self._query(endpoint, checked, prompt, tools=tools, model=model),
            other_prompt_tokens=prompt.other_tokens,
            slots=_slots(checked, prompt),
            stream=checked.get("stream") is True,
            include_usage=_options(checked).get("include_usage") is True,
            timeout_s=context.timeout_s,
            tenant=context.tenant,
            priority=context.priority,
            operation=endpoint.operation,
        )

    def _checked(self, endpoint: Endpoint, body: object) -> Body:
        if not isinstance(body, dict):
            raise InvalidRequest("the body must be a JSON object", param=None, code="invalid_type")
        given = cast("Body", body)
        _check_depth(given)
        # null means absent, as in OpenAI's API
        present = {name: value for name, value in given.items() if value is not None}
        _check_kinds(given.keys(), present, endpoint.allowed, path="")
        if endpoint.required not in present:
            name = endpoint.required
            raise InvalidRequest(
                f"missing required parameter: '{name}'",
                param=name,
                code="missing_required_parameter",
            )
        options = _options(present)
        _check_kinds(options.keys(), options, fields.STREAM_OPTIONS, path="stream_options.")
        self._check_extra_args(_mapping(present, "vllm_xargs"))
        for name in fields.REFUSED_TEMPLATE_ARGS:
            if name in _mapping(present, "chat_template_kwargs"):
                raise _unsupported(f"chat_template_kwargs.{name}")
        if present.get("background") is True:
            raise _unsupported("background")  # it would run without a slot
        if options and present.get("stream") is not True:
            raise InvalidRequest(
                "stream_options is only allowed when stream is true", param="stream_options"
            )
        return given

    def _check_extra_args(self, given: Mapping[str, object]) -> None:
        for name in given:
            if name not in self._extra_args:
                allowed = ", ".join(sorted(self._extra_args)) or "none"
                raise InvalidRequest(
                    f"vllm_xargs.{name} is not allowed here; engine.allowedExtraArgs: {allowed}",
                    param=f"vllm_xargs.{name}",
                    code="unsupported_parameter",
                )

    def _query(
        self, endpoint: Endpoint, body: Body, prompt: Prompt, *, tools: _Tools, model: str
    ) -> PredictionQuery:
        return PredictionQuery(
            text=prompt.text,
            prompt_tokens=prompt.tokens,
            endpoint=endpoint.name,
            model=model,
            max_tokens=self._max_tokens(endpoint, body, prompt),
            turns=prompt.turns,
            has_tools=tools.offered,
            has_schema=tools.forced or _has_schema(body),
            system=prompt.system,
            last_turn=prompt.last_turn,
            reasoning_effort=_reasoning_effort(body),
        )

    def _max_tokens(self, endpoint: Endpoint, body: Body, prompt: Prompt) -> int | None:
        given = (body.get(name) for name in endpoint.limits)
        asked = next((cast("int", value) for value in given if value is not None), None)
        room = None if self._max_model_len is None else max(self._max_model_len - prompt.tokens, 1)
        bounds = [bound for bound in (asked, room) if bound is not None]
        return max(min(bounds), 1) if bounds else None


def _check_kinds(
    names: Any, present: Mapping[str, object], allowed: Mapping[str, fields.Kind], *, path: str
) -> None:
    for name in names:
        if name not in allowed:
            raise _unsupported(f"{path}{name}")
    for name, value in present.items():
        kind = allowed[name]
        if value is not None and not kind.accepts(value):
            raise InvalidRequest(
                f"'{path}{name}' must be {kind.name}", param=f"{path}{name}", code="invalid_type"
            )


def _check_depth(body: Body) -> None:
    """Refuse what would make a later recursion too deep; iterative itself."""
    level: list[Any] = [body]
    for _ in range(MAX_DEPTH):
        inner = [item for value in level for item in _values(value) if _nested(item)]
        if not inner:
            return
        level = inner
    raise InvalidRequest(f"the body is nested deeper than {MAX_DEPTH} levels", param=None)


def _nested(value: object) -> bool:
    return isinstance(value, dict | list)


def _values(value: Any) -> Iterable[Any]:
    return cast("Body", value).values() if isinstance(value, dict) else value


def _slots(body: Body, prompt: Prompt) -> int:
    # best_of answers are generated even if only n of them are returned.
    each = max(cast("int", body.get(name) or 1) for name in ("n", "best_of"))
    slots = each * prompt.count
    if slots > MAX_ANSWERS:
        raise InvalidRequest(
            f"n x prompts is {slots}, at most {MAX_ANSWERS} are allowed", param="n"
        )
    return slots


@dataclass(frozen=True, slots=True)
class _Tools:
    """Whether the model may call tools, and whether it must: a call has a form of its own."""

    offered: bool
    forced: bool


def _tools(body: Body) -> _Tools:
    given = any(body.get(name) for name in _TOOLS)
    choice = body.get("tool_choice") or body.get("function_call")
    offered = given and choice != "none"
    return _Tools(offered, offered and (choice == "required" or isinstance(choice, dict)))


def _has_schema(body: Body) -> bool:
    """Whether the answer's form is constrained, and not just said to be text."""
    if body.get("structured_outputs"):
        return True
    formats = (body.get("response_format"), _mapping(body, "text").get("format"))
    kinds = (cast("Body", form).get("type") for form in formats if isinstance(form, dict))
    return any(kind not in (None, "text") for kind in kinds)


def _reasoning_effort(body: Body) -> str | None:
    """How hard the model is asked to think, in the client's own word; None: nothing is said."""
    switches = _mapping(body, "chat_template_kwargs")
    for said in (
        body.get("reasoning_effort"),
        _mapping(body, "reasoning").get("effort"),
        switches.get("reasoning_effort"),  # as templates take it; gRPC has no other way
    ):
        if isinstance(said, str):
            return said[:_LONGEST_EFFORT]
    thinks = [switches[name] for name in _THINKING_SWITCHES if name in switches]
    if not thinks:
        return None
    return "on" if any(thinks) else "none"


def _options(body: Mapping[str, object]) -> Mapping[str, object]:
    return _mapping(body, "stream_options")


def _mapping(body: Mapping[str, object], name: str) -> Mapping[str, object]:
    return cast("Mapping[str, object]", body.get(name) or {})


def _unsupported(param: str) -> InvalidRequest:
    return InvalidRequest(
        f"Unsupported parameter: '{param}' is not supported by this service.",
        param=param,
        code="unsupported_parameter",
    )
