# Millrace. Needs python3 >= 3.11 and make; everything else comes from the package registries.
#
# The environment is .venv, built from requirements.lock by uv with every hash checked. It is built again only
# when the lock or pyproject.toml changes.

PYTHON ?= python3
ARGS ?=
WORKERS ?= 3
BIN := .venv/bin
READY := .venv/.ready
SERVICES := $(patsubst %_service/service.toml,%,$(wildcard *_service/service.toml))
COMPILE := $(BIN)/uv pip compile --quiet --no-header --universal --python-version 3.11 --generate-hashes pyproject.toml
UV_ALONE := awk '/^[^ ]/ {wanted = /^uv==/} wanted' requirements.lock

.DEFAULT_GOAL := help
.PHONY: help demo up down status fetch test mutants lint format generate schemas lock clean

help:  ## Show what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

demo: $(READY)  ## Start everything and play orders through it; the stack stays up
	@$(BIN)/millrace demo

up: $(READY)  ## Start everything
	@$(BIN)/millrace up

down:  ## Stop everything; data stays
	@if [ -e $(READY) ]; then $(BIN)/millrace down; else echo "Nothing was started from here."; fi

status: $(READY)  ## Show what runs
	@$(BIN)/millrace status

fetch: $(READY)  ## Download what a first start needs
	@$(BIN)/millrace fetch

test: $(READY)  ## Run the tests on real Kafka and real Postgres (ARGS="tests/unit -k stock", WORKERS=0: one by one)
	@$(BIN)/pytest -n $(WORKERS) $(ARGS)

mutants: $(READY)  ## Put small bugs into a copy, one by one: does a test notice? (ARGS=--all)
	@$(BIN)/python -m tests.mutations $(ARGS)

lint: $(READY)  ## Lint, formatting, types, import walls, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/millrace generate --check

format: $(READY)  ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generate: $(READY)  ## Write what follows from each service.toml and .proto
	@$(BIN)/millrace generate

schemas: $(READY)  ## Publish the JSON Schemas of new event versions
	@$(BIN)/python -m schemas.publish

lock: $(READY)  ## Resolve pyproject.toml into requirements.lock, and each service's part of it
	$(COMPILE) --all-extras -o requirements.lock
	for service in $(SERVICES); do \
	  $(COMPILE) --constraints requirements.lock --extra $$service-service -o $${service}_service/requirements.lock || exit 1; \
	done
	$(COMPILE) --constraints requirements.lock --extra board -o board/requirements.lock
	$(UV_ALONE) > infra/images/tools.lock

clean:  ## Stop everything and remove its data (downloads stay)
	@if [ -e $(READY) ]; then $(BIN)/millrace clean; fi
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# uv itself is installed by pip, from its own lines of the lock, so that its hash is checked too.
$(READY): requirements.lock pyproject.toml millrace/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Millrace needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
	       "Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) can't make virtual environments: install its venv package" \
	       "(Debian and Ubuntu: apt-get install python3-venv)." >&2; exit 1; }
	@echo "Building .venv from requirements.lock"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@$(UV_ALONE) > .venv/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.txt
	@$(BIN)/uv pip sync --python $(BIN)/python --require-hashes requirements.lock
	@$(BIN)/uv pip install --python $(BIN)/python --quiet --no-deps --no-build-isolation --editable . --editable millrace
	@touch $@
