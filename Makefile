# Everything a developer does here. `make help` lists it.

SHELL := /bin/sh
.DEFAULT_GOAL := help
BIN := .venv/bin
# More than there are cores: a test waits for a database or a clock half of its time.
WORKERS ?= 4
TESTS := tests/unit tests/integration tests/contract tests/e2e
PACKAGES := agent_service chat_api deploy migrations shared tests benchmarks
export PATH := $(CURDIR)/$(BIN):$(PATH)
# A virtual environment or a search path of the caller's must not lead elsewhere.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME
# Without compiled modules every process of the tests compiles its libraries again: 7 s a worker.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup run test test-fast lint types imports format format-check migrate bench bench-short \
	bench-knowledge bench-records bench-large bench-test faults faults-short browser nginx static static-aside check lock lock-check openapi clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Bring uv if it is missing, and make .venv what the lock says (nothing to do: 0.1 s)
	@deploy/setup.sh

run: setup ## Run everything on this machine until Ctrl-C: stores, agent, API, worker
	@exec colloquy up

test: setup ## All tests but the faults, with servers of their own
	@pytest -n $(WORKERS) --dist=worksteal $(wildcard $(TESTS))

test-fast: setup ## Tests that start no process
	@pytest tests/unit

lint: setup ## Style and mistakes
	@ruff check .

format: setup ## Rewrite to the house's format
	@ruff format .
	@ruff check --fix-only --quiet .

format-check: setup
	@ruff format --check --quiet . || { echo "make format rewrites these:"; ruff format --check . ; exit 1; }

types: setup ## Strict type check
	@mypy $(wildcard $(PACKAGES))

imports: setup ## The layers of the design: who may import whom
	@lint-imports

migrate: setup ## Bring the database up to date (COLLOQUY_MIGRATION_DATABASE_URL, or beside `make run`)
	@colloquy migrate upgrade

bench: setup ## Our figures beside the limits measured next to them
	@python -m benchmarks

bench-short: setup ## See that every benchmark runs; the figures mean little
	@python -m benchmarks --short

bench-knowledge: setup ## Ingest, search among 100,000 passages, injected documents (15 minutes)
	@python -m benchmarks.ingest && python -m benchmarks.search && python -m benchmarks.injections

bench-records: setup ## Search, lists and figures among 1,000,000 messages, and seeding (5 minutes, 3 GB of disk)
	@python -m benchmarks.records && python -m benchmarks.seed

bench-large: setup ## History of 10,000,000 messages beside that of 10,000 (minutes, 6 GB of disk)
	@python -m benchmarks.large

bench-test: setup ## That every benchmark runs and prints its ratios (80 s)
	@pytest -q -n 2 --dist=worksteal tests/benchmarks/test_short_run.py tests/benchmarks

# A file at a time: whoever takes the tools starts the agent anew for them, and one deployment is enough.
faults-short: setup ## The fault tests, each fault once, on two clusters (under three minutes)
	@pytest -q -n 2 --dist=loadfile tests/faults

faults: setup ## The fault tests with many rounds
	@COLLOQUY_FAULT_ROUNDS=$${COLLOQUY_FAULT_ROUNDS:-20} pytest -m faults tests/faults

browser: ## Install Chromium for the browser tests (Debian, as root)
	@deploy/browser.sh

nginx: ## Install nginx for the test of the deployment (Debian, as root)
	@deploy/nginx.sh

static: format-check lint types imports lock-check ## What can be said without running anything

static-aside:
	@nice -n 19 $(MAKE) --no-print-directory static

# The fault tests wait for most of their time: what can be said without them is said beside them, and gives way.
check: setup ## What CI checks, tests last
	@$(MAKE) --no-print-directory bench-test
	@$(MAKE) --no-print-directory --jobs=2 static-aside faults-short
	@$(MAKE) --no-print-directory test

lock: setup ## Write both locks anew from pyproject.toml
	@uv=$$(deploy/setup.sh uv) && \
	$$uv pip compile pyproject.toml --universal --generate-hashes --no-emit-index-url --no-header \
		--no-annotate --python-version 3.11 -q -o requirements.lock && \
	$$uv pip compile pyproject.toml --group dev --universal --generate-hashes --no-emit-index-url --no-header \
		--no-annotate --python-version 3.11 -q -o requirements-dev.lock

lock-check: setup ## The locks name no address, and hold what pyproject.toml asks for
	@python -m deploy.locks

openapi: setup ## Write the OpenAPI and AsyncAPI documents to docs/
	@colloquy openapi --service chat_api --output docs/openapi/chat_api.json
	@colloquy openapi --service agent_service --output docs/openapi/agent_service.json
	@colloquy openapi --sockets --output docs/asyncapi/chat_api.json

clean: ## Remove what tools left (not the data folder)
	@rm -rf .venv .uv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
