# Every target works in the environment that is active; `make setup` fills it.
PYTHON ?= python
COMPAT_VENV ?= .venv-compat

.PHONY: help setup test test-heavy compat bench lint format types imports docs ci

help:  ## Say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1	/' | expand -t 14

setup:  ## Install gml and everything its development needs
	$(PYTHON) -m pip install -q --upgrade "pip>=25.1"
	$(PYTHON) -m pip install -e . --group dev

test:  ## Run the tests
	$(PYTHON) -m pytest -m "not heavy"

test-heavy:  ## Run the tests that are slow or need large packages, and those with many generated examples
	$(PYTHON) -m pytest -m heavy
	HYPOTHESIS_PROFILE=thorough $(PYTHON) -m pytest -m "not heavy" tests/capture tests/domain tests/git tests/index tests/ledger

compat:  ## Run MLflow's client, server and store beside ours, in an environment of their own (COMPAT_VENV)
	$(PYTHON) -m venv $(COMPAT_VENV)
	$(COMPAT_VENV)/bin/python -m pip install -q --upgrade "pip>=25.1"
	$(COMPAT_VENV)/bin/python -m pip install -q "mlflow>=3,<4" -e . --group test
	$(COMPAT_VENV)/bin/python -m pytest -n 0 -m "heavy or compat" -W default tests/compat_mlflow tests/compat

faults:  ## Kill, fill, cut and break everything, and print what was lost (15 minutes; FAULTS="--only kill --scale 0.1")
	$(PYTHON) tests/faults/run.py $(FAULTS)

bench:  ## Measure, beside MLflow where it is installed (ten minutes)
	$(PYTHON) benchmarks/run.py

lint:  ## Check style
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check

format:  ## Repair style where that can be done safely
	$(PYTHON) -m ruff check --fix
	$(PYTHON) -m ruff format

types:  ## Check types
	$(PYTHON) -m mypy

imports:  ## Check that imports go down only
	lint-imports

docs:  ## Write docs/cli.md, and today's output under the commands of the documentation
	$(PYTHON) docs/make_cli.py
	$(PYTHON) docs/blocks.py --update README.md docs/*.md

ci:  ## Do what CI does: all of it, from nothing
	bash .ci/run
