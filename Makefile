# Every target is one line of work; what it needs is set up by what it depends on.
SHELL := /bin/bash
.DEFAULT_GOAL := help

CACHE := $(or $(LLMSERVICE_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/llmservice)
UV_VERSION := 0.13.8
UV := $(or $(shell command -v uv),$(CACHE)/uv-$(UV_VERSION)/bin/uv)
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do $$p -c '' 2>/dev/null && command -v $$p && break; done)
RUN := $(UV) run --frozen
export UV_COMPILE_BYTECODE := 1
export UV_PYTHON_PREFERENCE := system

help:  ## Show what can be made
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(CACHE)/uv-$(UV_VERSION)/bin/uv:
	@$(PYTHON) -m venv $(CACHE)/uv-$(UV_VERSION) && $(CACHE)/uv-$(UV_VERSION)/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

sync: $(UV)  ## Create or update .venv from uv.lock
	@$(UV) sync --frozen --quiet

demo: sync  ## The main job on this machine: real vLLM on CPU, FCFS against SSJF, report in demo/
	@$(RUN) llmservice demo $(addprefix --predictor ,$(PREDICTORS))

sim: sync  ## Compare FCFS and SSJF with an oracle in the discrete-event simulator
	@$(RUN) llmservice sim --workload examples/workloads/demo-test.jsonl --policy FCFS --policy SSJF --predictor oracle --slots 8 --load 0.9 --seed 1

fmt: sync  ## Format the code
	@$(RUN) ruff format --quiet . && $(RUN) ruff check --fix --quiet .

lint: sync  ## Format check, lint, import contracts, spelling, YAML, Dockerfiles
	@$(RUN) ruff format --check --quiet . && $(RUN) ruff check . && $(RUN) lint-imports --no-logo 2>/dev/null && $(RUN) codespell && $(RUN) yamllint -s . && $(RUN) hadolint images/*/Dockerfile

type: sync  ## Strict type check of source and tests
	@$(RUN) pyright

docs: sync  ## Regenerate docs/cli-reference.md from the program
	@$(RUN) typer llmservice_local.cli utils docs --name llmservice --output docs/cli-reference.md >/dev/null

generate: docs  ## Regenerate what is derived: docs, wire code, the chart's CRD
	@$(RUN) python sidecar/llmservice_sidecar/wire/generate.py && $(RUN) python charts/generate.py

check-generated: generate
	@git diff --exit-code --stat -- sidecar/llmservice_sidecar/wire charts docs || { echo "generated files differ from their sources: commit the result of 'make generate'"; exit 1; }

golden: sync  ## Rewrite the golden manifests; review the diff
	@$(RUN) python tests/golden/update.py

tools: sync  ## Build or fetch the programs of a real control plane (etcd, kube-apiserver, ...), Prometheus and Jaeger
	@cd tests && $(RUN) python -m cluster.tools control-plane monitoring

engine: sync  ## Create the CPU engine's own environment (vLLM)
	@$(RUN) python -m llmservice_lab.engine.environment

WITH_ENGINE := tests/engine tests/integration/monitoring tests/integration/predictors tests/integration/sidecar
APART := tests/bench tests/e2e tests/scale

unit: sync  ## The fast tests only: no engine, no API server
	@$(RUN) pytest -q tests/unit tests/property tests/contract tests/runtime

# Two halves side by side, about as long as each other.
test: check-generated lint type tools engine  ## Lint, types and all tests but the cluster's
	@$(MAKE) --no-print-directory --jobs=2 test-with-engine test-without-engine

# Measuring slows the tests: not part of `test`.
coverage: sync tools engine  ## The same tests, and which branches they see
	@rm -f .coverage .coverage.*
	@$(MAKE) --no-print-directory --jobs=2 COVER="--cov --cov-report=" test-with-engine test-without-engine
	@$(RUN) coverage combine --quiet && $(RUN) coverage report --skip-covered

test-with-engine:
	@COVERAGE_FILE=.coverage.with $(RUN) pytest -q -m "not slow" $(WITH_ENGINE) $(COVER)

test-without-engine:
	@COVERAGE_FILE=.coverage.without $(RUN) pytest -q -m "not slow" tests $(addprefix --ignore=,$(WITH_ENGINE) $(APART)) $(COVER)

test-slow: sync tools engine  ## What takes minutes: many services, kills, every field, autoscalers, two nodes
	@$(RUN) pytest -q -m slow tests/integration tests/engine

images: sync  ## Build the images (BASE=..., ENGINE=buildah|podman|docker)
	@$(RUN) python images/build.py build $(if $(BASE),--base $(BASE)) $(if $(ENGINE),--engine $(ENGINE))

push: images  ## Push the images to REGISTRY=...
	@$(RUN) python images/build.py push --registry $(or $(REGISTRY),$(error say where to: make push REGISTRY=registry.example.com/llm)) $(if $(ENGINE),--engine $(ENGINE))

image-context: $(UV)  ## For other builders: what IMAGE=... is built from, on BASE=..., into build/images
	@PATH="$(dir $(UV)):$$PATH" $(UV) run --no-project --quiet python images/build.py context --output build/images $(if $(IMAGE),--image $(IMAGE)) $(if $(BASE),--base $(BASE))

release-check: sync  ## Build wheel, source archive and chart, try them, and compare all versions
	@$(RUN) python release/check.py

cluster: sync  ## A real one-node Kubernetes on this machine with our images (Linux, root)
	@cd tests && $(RUN) python -m cluster.node up --images

cluster-down: sync  ## End it and leave the machine as it was
	@cd tests && $(RUN) python -m cluster.node down

e2e: sync  ## The life of an installation on a real cluster: its own, or the one of KUBECONFIG (Linux, root)
	@$(RUN) pytest -q -s tests/e2e

scale-test: sync tools  ## One operator with 2,000 services, and killed twenty times: 20 min on two cores
	@$(RUN) pytest -q -s tests/scale

bench: sync engine  ## Write docs/benchmarks.md and its plots: 40 min on two cores; QUICK=1: 3 min, into build/benchmarks
	@$(RUN) python -m llmservice_lab.benchmarks $(if $(QUICK),--quick)

predictors: sync  ## Write docs/predictors.md (LENGTHS=table of answer lengths, ARTEFACTS=folder of trained models)
	@$(RUN) --group distill python -m llmservice_lab.predictors.table --lengths $(LENGTHS) $(if $(ARTEFACTS),--artefacts $(ARTEFACTS))

overheads: sync engine  ## Figures of this machine (gate, added latency); never asserted
	@$(RUN) pytest -q -s tests/bench

.PHONY: help sync demo sim fmt lint type docs generate check-generated golden tools engine unit test coverage test-with-engine test-without-engine test-slow images push image-context release-check cluster cluster-down e2e scale-test bench predictors overheads
