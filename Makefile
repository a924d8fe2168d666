# vislab: `make reproduce` sets everything up and prints one table; `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help env reproduce test test-slow lint bench clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 20

env: $(READY)  ## makes .venv with pinned versions (Python 3.11 or newer)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "vislab needs Python 3.11 or newer; run make PYTHON=python3.11 env")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

reproduce: env  ## TAFormer's Table 3 at tiny scale, one seed, on the embedded benchmark
	$(BIN)/python experiments/reproduce_table.py taformer T3 --scale tiny --seeds 1

test: env  ## the test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

test-slow: env  ## tests that take minutes: kill -9 at ten moments, fitting two real clips
	$(BIN)/python -m pytest -m slow

lint: env  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: env  ## speed of deformable attention against all competitors, after their check
	$(BIN)/vislab bench msda

clean:  ## removes the environment; runs/ and reports/ stay
	rm -rf $(VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache
