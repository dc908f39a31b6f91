"""Every span, attribute, event and metric name in one place: they are public. No logic.

`gen_ai.*` names follow the OpenTelemetry GenAI conventions as of semantic conventions 1.44.0
(status: Development, so they are ours to pin and are not taken from a package). Everything that
no convention covers is under `llmservice.`. No name here ever carries prompt or answer text.
"""

from __future__ import annotations

from typing import Final

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
TRACER_NAME: Final = "llmservice.sidecar"

# Spans. The SERVER span has the door's name for it ("POST /v1/chat/completions", the gRPC method);
# the CLIENT span is "<operation> <model>" and parent of the engine's own `llm_request`.
SPAN_PREDICT: Final = "predict_length"
SPAN_QUEUE: Final = "queue"
SPAN_ENGINE_OWN: Final = "llm_request"  # made by vLLM

# Events, one of each kind: the first three on the queue span, the last two on the CLIENT span
EVENT_OFFER: Final = "llmservice.offer"  # it came to the gate: the decision, and where it stood
EVENT_REKEY: Final = "llmservice.rekey"  # a late prediction or another policy has moved it
EVENT_ADMIT: Final = "llmservice.admit"  # its turn; an event of no request that never ran
EVENT_FIRST_TOKEN: Final = "llmservice.first_token"  # noqa: S105 - no secret; of a stream
EVENT_LAST_TOKEN: Final = "llmservice.last_token"  # noqa: S105 - no secret; of a complete answer

# Attributes of the SERVER span (and, where they are known earlier, of its children)
ATTR_REQUEST_ID: Final = "llmservice.request_id"
ATTR_DOOR: Final = "llmservice.door"  # "http" | "grpc"
ATTR_TENANT: Final = "llmservice.tenant"
ATTR_OUTCOME: Final = "llmservice.outcome"
ATTR_REASON: Final = "llmservice.reason"
ATTR_POLICY: Final = "llmservice.policy"  # what is configured
ATTR_ORDER: Final = "llmservice.order"  # what is really served: FCFS while the guard is open
ATTR_TAIL_WEIGHT: Final = "llmservice.tail_weight"  # theta of the configured policy
ATTR_SLOTS: Final = "llmservice.slots"
ATTR_PROMPT_TOKENS: Final = "llmservice.prompt_tokens"  # the sidecar's count or estimate
ATTR_RETRY_AFTER_S: Final = "llmservice.retry_after_s"
ATTR_PRIORITY: Final = "llmservice.priority"  # of two the larger is served first
ATTR_TIMEOUT_S: Final = "llmservice.timeout_s"  # the client's own limit
ATTR_SAMPLED_BY: Final = "llmservice.sampled_by"  # "head" | "error" | "slow": who kept the trace

# Attributes of the prediction and of what came true
ATTR_PREDICTED: Final = "llmservice.predicted_output_tokens"
ATTR_PREDICTED_P50: Final = "llmservice.predicted_p50"  # absent: the predictor knows no median
ATTR_PREDICTED_P90: Final = "llmservice.predicted_p90"
ATTR_PREDICTION_SOURCE: Final = "llmservice.prediction_source"
ATTR_ACTUAL: Final = "llmservice.actual"
ATTR_ERROR_RATIO: Final = "llmservice.prediction_error_ratio"  # predicted mean / actual
ATTR_WITHIN_P90: Final = "llmservice.within_p90"  # of a complete answer: true for nine in ten

# Attributes of the queue span and of its events
ATTR_DECISION: Final = "llmservice.decision"  # "admitted" | "queued" | "rejected"; of the offer
ATTR_REKEY_CAUSE: Final = "llmservice.rekey.cause"  # "prediction" | "policy"; of a re-key
ATTR_KEY: Final = "llmservice.key"
ATTR_QUEUE_POSITION: Final = "llmservice.queue.position"  # how many stood before it when it came
ATTR_QUEUE_DEPTH: Final = "llmservice.queue.depth"  # how many waited when it came, itself included
ATTR_LIMIT_SLOTS: Final = "llmservice.limit_slots"  # how many could be in flight at its end
ATTR_LIMIT_REASON: Final = "llmservice.limit_reason"  # the bound: as the label of the metric
ATTR_IN_FLIGHT: Final = "llmservice.in_flight_slots"  # how many were, itself included if it runs
ATTR_QUEUE_WAIT_S: Final = "llmservice.queue.wait_s"
ATTR_PREDICTED_WAIT_S: Final = "llmservice.queue.predicted_wait_s"  # if it stood in the first 256
ATTR_OVERTAKING_BOUND_S: Final = "llmservice.queue.overtaking_bound_s"
ATTR_OVERTOOK: Final = "llmservice.overtook"
ATTR_OVERTAKEN_BY: Final = "llmservice.overtaken_by"
ATTR_OVERTAKEN_BY_IDS: Final = "llmservice.overtaken_by_ids"
ATTR_GAMMA: Final = "llmservice.gamma_per_s"

# Attributes of the CLIENT span, by convention
ATTR_GEN_AI_OPERATION: Final = "gen_ai.operation.name"
ATTR_GEN_AI_PROVIDER: Final = "gen_ai.provider.name"
ATTR_GEN_AI_MODEL: Final = "gen_ai.request.model"
ATTR_GEN_AI_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
ATTR_GEN_AI_TEMPERATURE: Final = "gen_ai.request.temperature"
ATTR_GEN_AI_TOP_P: Final = "gen_ai.request.top_p"
ATTR_GEN_AI_CHOICES: Final = "gen_ai.request.choice.count"
ATTR_GEN_AI_STREAM: Final = "gen_ai.request.stream"
ATTR_GEN_AI_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
ATTR_GEN_AI_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
ATTR_GEN_AI_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
ATTR_GEN_AI_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
ATTR_ERROR_TYPE: Final = "error.type"
ATTR_HTTP_STATUS: Final = "http.response.status_code"
PROVIDER: Final = "vllm"  # the value of gen_ai.provider.name

# Of a streamed answer, on the CLIENT span; written once, at its end
ATTR_LONGEST_GAP_S: Final = "llmservice.longest_gap_s"  # between chunks of the engine
ATTR_CLIENT_STALL_S: Final = "llmservice.client_stall_s"  # chunks waited to be taken by the client

# Attributes of the engine's own span, read by tests and reports
ATTR_ENGINE_QUEUE_S: Final = "gen_ai.latency.time_in_queue"

# Resource attributes
RESOURCE_SERVICE_NAME: Final = "service.name"
RESOURCE_SERVICE_VERSION: Final = "service.version"
RESOURCE_SERVICE_NAMESPACE: Final = "service.namespace"
RESOURCE_SERVICE_INSTANCE: Final = "service.instance.id"
RESOURCE_POD: Final = "k8s.pod.name"
RESOURCE_POD_UID: Final = "k8s.pod.uid"
RESOURCE_NAMESPACE: Final = "k8s.namespace.name"
RESOURCE_NODE: Final = "k8s.node.name"
RESOURCE_CONTAINER: Final = "k8s.container.name"

# Metrics (Prometheus names; `_total` and `_bucket` suffixes are the client's)
METRIC_REQUESTS: Final = "llmservice_requests"
METRIC_QUEUE_WAIT: Final = "llmservice_queue_wait_seconds"
METRIC_QUEUE_WAIT_ERROR: Final = "llmservice_queue_wait_error_ratio"
METRIC_LONGEST_WAIT: Final = "llmservice_longest_wait_seconds"
METRIC_SLOWDOWN: Final = "llmservice_slowdown_ratio"
METRIC_QUEUED: Final = "llmservice_queued_requests"
METRIC_QUEUED_TOKENS: Final = "llmservice_queued_tokens"
METRIC_IN_FLIGHT: Final = "llmservice_in_flight_slots"
METRIC_LIMIT: Final = "llmservice_limit_slots"
METRIC_LOOK_AHEAD: Final = "llmservice_look_ahead_slots"
METRIC_SCHEDULING: Final = "llmservice_scheduling"  # `_info` is the client's
METRIC_BACKLOG: Final = "llmservice_backlog_seconds"
METRIC_GAMMA: Final = "llmservice_gamma_per_second"
METRIC_PREDICTIONS: Final = "llmservice_predictions"
METRIC_PREDICTION_DURATION: Final = "llmservice_prediction_duration_seconds"
METRIC_PREDICTION_ERROR: Final = "llmservice_prediction_error_ratio"
METRIC_TAU: Final = "llmservice_predictor_tau"
METRIC_TAU_LOWER: Final = "llmservice_predictor_tau_lower"
METRIC_TAU_UPPER: Final = "llmservice_predictor_tau_upper"
METRIC_MODEL_TAU: Final = "llmservice_predictor_model_tau"
METRIC_MODEL_TRUSTED: Final = "llmservice_predictor_model_trusted"
METRIC_COVERAGE: Final = "llmservice_predictor_coverage"
METRIC_TIMEOUTS: Final = "llmservice_predictor_timeouts"
METRIC_FAILURES: Final = "llmservice_predictor_failures"
METRIC_FALLBACKS: Final = "llmservice_predictor_fallbacks"
METRIC_CALIBRATION_SAMPLES: Final = "llmservice_predictor_calibration_samples"
METRIC_GAIN: Final = "llmservice_estimated_gain_ratio"
METRIC_ENGINE_UP: Final = "llmservice_engine_up"
METRIC_DRAINING: Final = "llmservice_draining"
METRIC_UNAUTHENTICATED: Final = "llmservice_unauthenticated_requests"
METRIC_SECRET_REFUSED: Final = "llmservice_secret_refused"  # noqa: S105 - a name
METRIC_CERTIFICATE_EXPIRES: Final = "llmservice_tls_certificate_expires_timestamp_seconds"
METRIC_SPANS_DROPPED: Final = "llmservice_spans_dropped"
METRIC_ACTIVATOR_HELD: Final = "llmservice_activator_held_requests"
METRIC_ACTIVATOR_BYTES: Final = "llmservice_activator_held_bytes"
METRIC_ACTIVATOR_SYNCED: Final = "llmservice_activator_synced"
METRIC_ACTIVATOR_REQUESTS: Final = "llmservice_activator_requests"
METRIC_ACTIVATOR_HOLD: Final = "llmservice_activator_hold_seconds"
METRIC_BUILD: Final = "llmservice_build"
METRIC_PREFIX_PROCESS: Final = "llmservice"  # of the process_* metrics, which the engine has too
METRIC_GEN_AI_DURATION: Final = "gen_ai_server_request_duration_seconds"
METRIC_GEN_AI_FIRST_TOKEN: Final = "gen_ai_server_time_to_first_token_seconds"  # noqa: S105
METRIC_GEN_AI_PER_TOKEN: Final = "gen_ai_server_time_per_output_token_seconds"  # noqa: S105

# The engine's gauge that endpoint pickers read: ours is added to it, its own value is kept beside.
METRIC_ENGINE_WAITING: Final = "vllm:num_requests_waiting"
METRIC_ENGINE_WAITING_RAW: Final = "llmservice_engine_requests_waiting"

# Metric labels
LABEL_OUTCOME: Final = "outcome"
LABEL_REASON: Final = "reason"
LABEL_SOURCE: Final = "source"
LABEL_OPERATION: Final = "gen_ai_operation_name"
LABEL_PROVIDER: Final = "gen_ai_provider_name"
LABEL_MODEL: Final = "gen_ai_request_model"
LABEL_ERROR: Final = "error_type"
LABEL_POLICY: Final = "policy"  # what is configured
LABEL_ORDER: Final = "order"  # what is served
LABEL_MODE: Final = "mode"  # of the predictor
LABEL_QUANTILE: Final = "quantile"
LABEL_SECRET: Final = "secret"  # noqa: S105 - a name
