# Two commands are enough on a fresh machine: `make demo` and `make test`. docs/install.md has more.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# The build of torch: for CPUs by default; .../whl/cu130 for CUDA; empty: pip's own index, which is
# also taken where this one cannot be reached (behind a mirror).
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
# What is installed beside MARC: text beside events (docs/install.md). On a Linux whose glibc is older
# than 2.34: make EXTRAS=dev,ocr
EXTRAS ?= dev,speech,ocr
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Ray starts twice as fast when byte code is kept.
export PYTHONDONTWRITEBYTECODE :=
# Processes of `make test`; one of them runs all tests that need a Ray (tests/conftest.py).
TEST_WORKERS ?= 2

.PHONY: demo test test-all wheel-test lint bench clean help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "MARC needs Python 3.11 or newer. Name one: make PYTHON=python3.12 ..."; exit 2; }
	@echo "Installing MARC into $(VENV), once: 1/2 torch, some minutes (200 MB and more) ..." >&2
	@$(PYTHON) -m venv $(VENV)
ifneq ($(TORCH_INDEX),)
	@$(PIP) --retries 0 --timeout 15 install --constraint constraints.txt --no-deps \
	    --index-url $(TORCH_INDEX) torch || \
	  { echo "No torch from $(TORCH_INDEX): taking it from pip's own index."; \
	    $(PIP) install --constraint constraints.txt --no-deps torch; } || \
	  { echo "No torch from pip's own index either. Name one that has it: make TORCH_INDEX=URL ..."; exit 2; }
endif
	@echo "2/2 everything else: 5 to 15 minutes on two cores ..." >&2
	@$(PIP) install --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

demo: $(VENV)/.installed  ## render a small archive, index it on a local Ray, ask it questions
	$(BIN)/marc demo

test: $(VENV)/.installed  ## unit and Ray tests, in two processes
	$(BIN)/python -m pytest --numprocesses $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

test-all: $(VENV)/.installed  ## the slow tier too
	$(BIN)/python -m pytest -m 'not gpu' --timeout 1800

wheel-test: $(VENV)/.installed  ## build the wheel, install it into a fresh environment, use it there
	$(BIN)/python -m pytest tests/packaging -m 'slow or not slow' -k 'not submit' --timeout 900

lint: $(VENV)/.installed  ## ruff, mypy (strict on marc_core), import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed  ## all benchmarks, results to benchmarks/results
	$(BIN)/python -m benchmarks

clean:  ## remove what make and the demo made
	rm -rf $(VENV) runs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
