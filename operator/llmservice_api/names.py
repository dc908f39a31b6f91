"""Every name that operator, sidecar, chart and command line must agree on. No logic."""

from __future__ import annotations

from typing import Final

GROUP: Final = "llmservice.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "LLMService"
PLURAL: Final = "llmservices"
SHORT_NAME: Final = "llmsvc"

FIELD_MANAGER: Final = "llmservice-operator"
METRIC_BACKLOG: Final = "llmservice_backlog_seconds"  # of one replica; autoscalers ask for it
LABEL_WORKER_INDEX: Final = "leaderworkerset.sigs.k8s.io/worker-index"  # "0" is the leader
LABEL_NAME: Final = f"{GROUP}/name"  # the LLMService that owns an object
ANNOTATION_STATIC_HASH: Final = f"{GROUP}/static-config-hash"
ANNOTATION_RESTARTED_AT: Final = f"{GROUP}/restartedAt"
ANNOTATION_LEARNED: Final = f"{GROUP}/learned"  # outcomes behind a kept snapshot
ANNOTATION_RENDERING: Final = f"{GROUP}/rendering"  # images and rendering version at first apply

LABEL_SLICE_SERVICE: Final = "kubernetes.io/service-name"  # of EndpointSlices
LABEL_SLICE_MANAGER: Final = "endpointslice.kubernetes.io/managed-by"

CONTAINER_ENGINE: Final = "main"
CONTAINER_SIDECAR: Final = "sidecar"
CONTAINER_FETCH: Final = "fetch"  # downloads the model, after the sidecar and before the engine

PORT_HTTP: Final = 8000
PORT_GRPC: Final = 50051
PORT_OPS: Final = 9090
PORT_OPERATOR: Final = 8081  # the operator's own, for autoscalers and activators
PORT_ADMIN: Final = 9091
PORT_ENGINE: Final = 8001
PORT_GROUP: Final = 29501  # on the leader of a replica of several nodes, for its workers

# Of the activator, two for each service that may sleep: below the kernel's range for clients.
ACTIVATOR_FIRST_PORT: Final = 10_000
ACTIVATOR_LAST_PORT: Final = 31_999
PATH_ACTIVATIONS: Final = "/activations"  # of the operator: what the activator has to know

CONFIG_DIR: Final = "/etc/llmservice"
STATIC_CONFIG_FILE: Final = "static.json"
LIVE_CONFIG_FILE: Final = "live.json"

PATH_QUEUE: Final = "/queue"  # on the admin port: the queue one by one

# On the ops port: what a predictor has learned, for its replicas and for the operator.
PATH_STATISTICS: Final = "/predictor/statistics"
PATH_SNAPSHOT: Final = "/predictor/snapshot"
PREDICTOR_STATE_DIR: Final = "/var/lib/llmservice"  # a volume of the pod
PREDICTOR_INHERITED_DIR: Final = "/etc/llmservice-predictor"  # another pod's state, mounted
PREDICTOR_SNAPSHOT_FILE: Final = "snapshot.safetensors"

# Secrets of the doors, mounted into the sidecar.
API_KEYS_DIR: Final = "/etc/llmservice-api-keys"
TLS_DIR: Final = "/etc/llmservice-tls"

# A volume of fetch, sidecar and engine: links to what was delivered, and how far it is.
DELIVERY_DIR: Final = "/run/llmservice"
PROGRESS_FILE: Final = "progress.json"
MODEL_LINK: Final = "model"
CACHE_DIR: Final = "/var/cache/llmservice"  # downloads; replicas may share it

IMAGE_REPOSITORY: Final = "ghcr.io/llmservice"
IMAGES: Final = ("operator", "sidecar", "engine", "engine-cpu")

GRPC_SERVICE: Final = "llmservice.inference.v1alpha1.InferenceService"
