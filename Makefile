# Two commands do everything on a fresh machine: `make demo` and `make test`.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Extra arguments for pip. On a laptop that wants a CPU build of torch, for example:
#   make test PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_ARGS ?=
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format kills chaos world matrix identity clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(STAMP)  ## make .venv and install everything into it

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is %s; say make PYTHON=python3.12 ..." % sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt "torch==2.13.0"
	$(BIN)/pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e ".[dev]"
	touch $@

demo: setup  ## run the whole service once, on real engines, with pictures on disk
	$(BIN)/ourvidz demo

# Two at once, a file to one of them; torch gets one thread each, or four would fight over two cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile
test: setup  ## run every test (starts its own PostgreSQL and Valkey)
	$(PYTEST)

check: setup  ## format, lint, types, layers, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST)

format: setup  ## let ruff format and fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

KILLS ?= 20
DATABASE ?= sqlite
kills: setup  ## kill worker, engine, ingress and up, KILLS times each, on DATABASE=sqlite|postgresql
	$(BIN)/python -m tests.campaigns.kills --database $(DATABASE) --kills $(KILLS)

JOBS ?= 500
REAL ?= 0
MINUTES ?= 5
chaos: DATABASE = postgresql
chaos: setup  ## break everything for MINUTES, under JOBS of the null engine and REAL ones, on DATABASE=sqlite|postgresql
	$(BIN)/python -m tests.campaigns.chaos --database $(DATABASE) --jobs $(JOBS) --real $(REAL) --minutes $(MINUTES)

WORLD ?= --minutes 15
world: setup  ## the service in one thread, hurt at every effect, then at random; WORLD="--seed N --minutes M"
	$(BIN)/python -m tests.world.campaign $(WORLD)

matrix: setup  ## every job type in every reference mode, end to end; pictures in matrix-output
	$(BIN)/python -m tests.campaigns.matrix --output matrix-output/$$(date +%Y%m%d-%H%M%S)

ONLY ?=
identity: setup  ## kill each type in each mode at three steps; the bytes must be an undisturbed run's
	$(BIN)/python -m tests.campaigns.identity --database $(DATABASE) --only "$(ONLY)"

clean:  ## remove the venv, caches and demo output
	rm -rf $(VENV) demo-output matrix-output .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
