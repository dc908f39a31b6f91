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
LABEL_NAME: Final = f"{GROUP}/name"  # the LLMService that owns an object
ANNOTATION_STATIC_HASH: Final = f"{GROUP}/static-config-hash"
ANNOTATION_RESTARTED_AT: Final = f"{GROUP}/restartedAt"
ANNOTATION_LEARNED: Final = f"{GROUP}/learned"  # outcomes behind a kept snapshot
ANNOTATION_RENDERING: Final = f"{GROUP}/rendering"  # images and rendering version at first apply

CONTAINER_ENGINE: Final = "main"
CONTAINER_SIDECAR: Final = "sidecar"

PORT_HTTP: Final = 8000
PORT_GRPC: Final = 50051
PORT_OPS: Final = 9090
PORT_ADMIN: Final = 9091
PORT_ENGINE: Final = 8001

CONFIG_DIR: Final = "/etc/llmservice"
STATIC_CONFIG_FILE: Final = "static.json"
LIVE_CONFIG_FILE: Final = "live.json"

# On the ops port: what a predictor has learned, for its replicas and for the operator.
PATH_STATISTICS: Final = "/predictor/statistics"
PATH_SNAPSHOT: Final = "/predictor/snapshot"
PREDICTOR_STATE_DIR: Final = "/var/lib/llmservice"  # a volume of the pod
PREDICTOR_INHERITED_DIR: Final = "/etc/llmservice-predictor"  # another pod's state, mounted
PREDICTOR_SNAPSHOT_FILE: Final = "snapshot.safetensors"

IMAGE_REPOSITORY: Final = "ghcr.io/llmservice"
IMAGES: Final = ("operator", "sidecar", "engine", "engine-cpu")

GRPC_SERVICE: Final = "llmservice.inference.v1alpha1.InferenceService"
