# One entry to everything: `make help` lists the targets.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
READY_DEV := .venv/.ready-dev
PIN := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup demo up test test-faults test-contract check reference format lock bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY_DEV) ## a virtual environment with everything that is pinned in requirements-dev.lock

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"Python 3.11 to 3.13 is needed, this is {v[0]}.{v[1]}: run make PYTHON=python3.12")' || exit 2
	@echo "Setting up .venv (about 180 MB are fetched the first time) ..."
	@$(PYTHON) -m venv .venv
	@$(INSTALL) --require-hashes -r requirements.lock
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $(READY)

$(READY_DEV): $(READY) requirements-dev.lock
	@echo "Adding the tools of development and tests ..."
	@$(INSTALL) --require-hashes -r requirements-dev.lock
	@touch $(READY_DEV)

demo: $(READY) ## start the platform, run the main job on real data, show its ledger and result
	@$(BIN)/dataaggregator demo

up: $(READY) ## start the platform with the demo's pipelines and stay up: http://localhost:8001/api/docs
	@$(BIN)/dataaggregator up --demo

test: $(READY_DEV) ## all tests, with a private PostgreSQL that the run brings up itself
	@$(BIN)/python -m pytest -n 2 --dist loadfile tests

check: $(READY_DEV) ## format, lint, types, import contracts, generated files, unit tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m dataaggregator.reference --check
	@$(BIN)/python -m pytest -q tests/unit

reference: $(READY_DEV) ## write the generated pages of docs/ anew
	@$(BIN)/python -m dataaggregator.reference

format: $(READY_DEV) ## put the code into the house's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: ## pin every dependency again, with hashes (needs uv)
	@$(PIN) --group dev pyproject.toml -o requirements-dev.lock
	@$(PIN) --group build pyproject.toml -c requirements-dev.lock -o requirements.lock

test-faults: $(READY_DEV) ## the whole count of kills and cuts, each printing its seed (up to an hour)
	@FAULTS=all $(BIN)/python -m pytest -n 2 --dist loadfile -m faults tests/faults

test-contract: $(READY_DEV) ## the served document against the running platform, 100 made-up calls an operation
	@CONTRACT=all $(BIN)/python -m pytest tests/contract/test_served_document.py

bench: $(READY_DEV) ## the benchmarks, each beside its limit or peer in the same run
	@$(BIN)/python -m tests.bench

clean: ## remove what set-up, tests and tools made (never an embedded home)
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage* htmlcov
