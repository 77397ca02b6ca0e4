# openlathe: `make help` lists what there is.

PYTHON  ?= python3
WORKERS ?= 2
DIST    ?= dist
VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.ready
PIP     := $(BIN)/python -m pip --disable-pip-version-check install --constraint constraints.txt
MEMBERS := $(patsubst %/pyproject.toml,%,$(wildcard core/pyproject.toml sdk/pyproject.toml \
             plugins/*/pyproject.toml plugins/*/*/pyproject.toml plugins/*/*/*/pyproject.toml))

# Two cores run two test processes; torch must not start a pool of threads in each of them.
TEST    := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup serve test test-long bench lint docs wheels clean train-demo eval-demo

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-28s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv with everything in it, every version pinned
	@:

$(VENV)/.pinned: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "openlathe needs Python 3.11 or newer and '$(PYTHON)' is not: name one, as in 'make setup PYTHON=python3.12'." >&2; \
	  exit 1; }
	@echo "[1/4] a virtual environment in $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "[2/4] torch: the CPU build where one is offered"
	@$(PIP) torch==2.13.0
	@echo "[3/4] everything else, each in the version that constraints.txt pins"
	@$(PIP) --requirement constraints.txt
	@touch $@

$(STAMP): $(VENV)/.pinned pyproject.toml $(MEMBERS:%=%/pyproject.toml)
	@echo "[4/4] openlathe and its plugins, editable"
	@$(PIP) --quiet --no-build-isolation --group dev $(MEMBERS:%=--editable ./%)
	@touch $@
	@echo "ready: 'make serve' or 'make test'"

serve: $(STAMP) ## Serve the demonstration model, or MODEL=<directory or hub id> [ARGS=<flags of serve>]
	@exec $(BIN)/serve $(if $(MODEL),"$(MODEL)") $(ARGS)

test: lint ## Lint, type-check and run every test but the long ones [ARGS=<flags of pytest>]
	@$(TEST) $(ARGS)

test-long: $(STAMP) ## Run the long tests too expensive for every change
	@$(TEST) -m long --timeout 1800 $(ARGS)

bench: $(STAMP) ## Measure against transformers in one run [ARGS=<flags of the benchmark>]
	@$(BIN)/python -m benchmarks $(ARGS)

lint: $(STAMP) ## Check style and types
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { echo "'$(BIN)/ruff format .' puts that right" >&2; exit 1; }
	@$(BIN)/mypy

docs: $(STAMP) ## Write docs/reference from the contract and the settings, and the dashboard
	@$(BIN)/python scripts/reference.py
	@$(BIN)/python scripts/dashboard.py

wheels: $(STAMP) ## Build every distribution into dist/
	@rm -f $(DIST)/*.whl
	@$(BIN)/python -m pip --disable-pip-version-check wheel --quiet --no-deps --no-build-isolation --wheel-dir $(DIST) \
	  $(MEMBERS:%=./%)
	@ls -1 $(DIST)

train-demo: $(STAMP) ## Train the demonstration checkpoints [ARGS=<flags of the script>]
	@$(BIN)/python -m plugins.models.demo.train $(ARGS)

eval-demo: $(STAMP) ## Examine them on held-out questions [ARGS=--wrong 3 shows mistakes]
	@$(BIN)/python -m plugins.models.demo.train --only evaluation $(ARGS)

clean: ## Remove what make and the tests made, but not .venv
	@rm -rf dist .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
