# Two commands: `make run`, `make test`. `make help` lists the rest.
PYTHON ?= python3
BIN := .venv/bin
SHARED := --dist worksteal
# Files with tests of a mark: to load all files costs each process 6 s more than to load these.
files_with = $(shell grep -rl 'mark\.$(1)' --include='test_*.py' tests | sort)

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

.PHONY: run
run: .venv/installed ## serve on http://localhost:8000, with SQLite and the in-process store
	@echo "keyturn serve, with its data in $(CURDIR)/data"
	@KEYTURN_LOG_FORMAT=$${KEYTURN_LOG_FORMAT:-console} exec $(BIN)/keyturn serve

.PHONY: dev
dev: .venv/developing ## make the environment for development: everything that the tests and checks need

# Some environments switch the cache of compiled modules off. Each process of the tests would compile all of them again.
test test-quick test-long: export PYTHONDONTWRITEBYTECODE =

.PHONY: test
ifdef T
test: .venv/developing
	$(BIN)/python -m pytest $(T)
else
test: test-quick ## run the suite, on every store that this machine has; one file: make test T=tests/factors/test_totp.py
	$(BIN)/python -m pytest -n 2 $(SHARED) -m "heavy and not alone" $(call files_with,heavy)
	$(BIN)/python -m pytest -m alone $(call files_with,alone)
endif

.PHONY: test-quick
test-quick: .venv/developing ## run the first part of make test: nineteen of twenty tests, in six minutes on two cores
	$(BIN)/python -m pytest -n auto --maxprocesses 4 $(SHARED) -m "not heavy and not alone"

.PHONY: test-long
test-long: .venv/developing ## the races and random cases again, with more rounds than make test has
	TEST_ROUNDS=$${TEST_ROUNDS:-long} $(BIN)/python -m pytest -n 2 $(SHARED) -m rounds $(call files_with,rounds)

.PHONY: test-all
test-all: ## make test and make test-long; with TEST_ROUNDS=all in the environment, all rounds
	TEST_ROUNDS=few $(MAKE) test
	$(MAKE) test-long

.PHONY: lint
lint: .venv/developing ## check style, types and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: docs
docs: .venv/documenting ## build docs/ into build/site, and stop at every warning
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.PHONY: bench
bench: .venv/developing ## measure what the service costs, as ratios, with SQLite and in production configuration
	$(BIN)/python -m bench

.PHONY: scoreboard
scoreboard: .venv/developing ## measure all figures with a goal, into docs/scoreboard.md: two hours on an idle machine
	$(BIN)/python -m bench.scoreboard --write docs/scoreboard.md

.PHONY: mutants
mutants: .venv/developing ## remove one guard after the other: the suite must fail each time
	$(BIN)/python -m tests.mutants

.PHONY: model
model: .venv/developing ## explore every order of events in a model of the protocol: some minutes
	$(BIN)/python -m tests.model

.PHONY: faults
faults: .venv/developing ## break stores, service and clocks under load; writes docs/faults.md: a quarter of an hour
	$(BIN)/python -m tests.faults

.PHONY: deploy-check
deploy-check: .venv/developing ## check everything in deploy/ with the validators and the programs that it is for
	$(BIN)/python -m pytest -q tests/deploy

.PHONY: image-check
image-check: ## build the Dockerfile and run a two-factor login in the container
	.ci/image-check

.PHONY: format
format: .venv/developing ## format the code and fix its style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: openapi
openapi: .venv/installed ## write openapi.json from the code
	$(BIN)/python -m tests.openapi_document > openapi.json

.PHONY: reference
reference: .venv/developing ## write the pages of docs/reference/ that are generated from the code
	$(BIN)/python -m tests.reference

.PHONY: screenshots
screenshots: .venv/developing ## take the pictures in docs/images/ from the running account page (needs Chromium and npm)
	$(BIN)/python -m tests.screenshots

.PHONY: requirements
requirements: ## pin the dependencies of pyproject.toml, with hashes (needs uv)
	uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header --no-annotate \
		--python-version 3.11 pyproject.toml -o requirements.txt
	uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header --no-annotate \
		--python-version 3.11 pyproject.toml --group dev -c requirements.txt -o requirements-dev.txt
	uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header --no-annotate \
		--python-version 3.11 --group docs -c requirements-dev.txt -o requirements-docs.txt

.PHONY: clean
clean: ## remove the environment and caches; the data folder stays
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

.venv/bin/python:
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
		echo "Python cannot make an environment. On Debian: apt-get install python3-venv" >&2; exit 1; }

.venv/installed: .venv/bin/python requirements.txt pyproject.toml
	$(BIN)/python -m pip install -q --require-hashes -r requirements.txt
	$(BIN)/python -m pip install -q --no-deps -e .
	@touch $@

.venv/developing: .venv/installed requirements-dev.txt
	$(BIN)/python -m pip install -q --require-hashes -r requirements-dev.txt
	@touch $@

.venv/documenting: .venv/bin/python requirements-docs.txt
	$(BIN)/python -m pip install -q --require-hashes -r requirements-docs.txt
	@touch $@
