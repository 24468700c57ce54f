# Every target sets itself up: a virtual environment inside the checkout, filled from pyproject.toml.
# It needs make, git and a Python of 3.11 or newer; name another one with `make PYTHON=/path/to/python ...`.

.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN := .venv/bin
INSTALLED := .venv/.installed
PYTHON_IS_RECENT := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	  $$python -c '$(PYTHON_IS_RECENT)' 2>/dev/null && { echo $$python; break; }; done)

# `make demo MODEL=smollm2` asks for the other one; a variable of that name in the environment means something else.
MODEL := tiny

# The tests start thousands of Python processes: without bytecode each of them compiles the whole project again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-heavy lint bench schemas golden fuzz crash

help: ## say what the targets do
	@grep -hE '^[a-z-]+:.* ## ' $(MAKEFILE_LIST) | awk -F ':.* ## ' '{ printf "make %-11s %s\n", $$1, $$2 }'

$(INSTALLED): pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
	  echo "reconciler needs Python 3.11 or newer, and none was found: install one, or name it with PYTHON=/path/to/python." >&2; \
	  exit 1; fi
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv || { \
	  echo "$(PYTHON) could not make a virtual environment in .venv; on Debian and Ubuntu its module is the package python3-venv." >&2; \
	  exit 1; }
	@$(BIN)/python -c '$(PYTHON_IS_RECENT)' || { \
	  echo "The Python in .venv is older than 3.11: remove the folder .venv and run make again." >&2; exit 1; }
	@echo "Installing what pyproject.toml asks for into .venv (the first time takes a minute or more)."
	@install() { $(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[dev]'; }; \
	  install || { echo "The installation failed; trying once more." >&2; sleep 5; install; }
	@touch $@

demo: $(INSTALLED) ## the main job for real: two tiny models served, killed, healed, moved, stopped; MODEL=smollm2: a real one
	@$(BIN)/reconciler demo --model "$(MODEL)"

test: lint ## everything but the heavy tests, after lint
	@$(BIN)/pytest -n 2 -m "not heavy"

test-heavy: $(INSTALLED) ## the tests that need downloads, other server programs or minutes
	@$(BIN)/pytest -n 2 -m heavy

lint: $(INSTALLED) ## ruff, mypy and the import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy reconciler tests $(wildcard benchmarks tools)
	@$(BIN)/lint-imports --no-logo

bench: $(INSTALLED) ## measure, as ratios against floors of the same run
	@$(BIN)/python -m benchmarks.run

schemas: $(INSTALLED) ## write the JSON Schemas of all documents
	@$(BIN)/python -m reconciler schema --write schemas

golden: $(INSTALLED) ## rewrite the expected output of the golden stories; read the diff before you commit it
	@UPDATE_GOLDEN=1 $(BIN)/pytest tests/golden

fuzz: $(INSTALLED) ## read 100,000 mutated documents and look for a traceback
	@$(BIN)/python -m tests.fuzz.run 100000

crash: $(INSTALLED) ## a million crash schedules of the file protocols
	@$(BIN)/python -m tests.crash.run 1000000
