# Two commands are enough on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Ray starts twice as fast when byte code is kept.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-all lint bench clean help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(VENV)/.installed  ## render a small archive, index it on a local Ray, ask it questions
	$(BIN)/marc demo

test: $(VENV)/.installed  ## unit and Ray tests
	$(BIN)/python -m pytest

test-all: $(VENV)/.installed  ## the slow tier too
	$(BIN)/python -m pytest -m 'not gpu' --timeout 1800

lint: $(VENV)/.installed  ## ruff, mypy (strict on marc_core), import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed  ## all benchmarks, results to benchmarks/results
	$(BIN)/python -m benchmarks

clean:  ## remove what make and the demo made
	rm -rf $(VENV) runs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
