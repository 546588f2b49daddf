# The two commands: `make run` runs everything, `make test` runs everything that CI does. Only Python (3.11 to 3.13) and make are needed.

VENV ?= .venv
IB_ASYNC_VENV ?= .venv-ib-async
PEERS_VENV ?= .venv-peers
export PEERS_VENV
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$python && break; done)
PIP_OPTIONS = --disable-pip-version-check --quiet --constraint constraints.txt

# Without its compiled files every start takes two to five times as long.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONWARNINGS =

.PHONY: help run test lint unit ib-async bench bench-live peers clean soak soak-simulation
.DELETE_ON_ERROR:

help:
	@echo "make run     the whole product: database, broker (simulated unless one is set), Dagster UI, schedule"
	@echo "make test    all checks and tests, as CI runs them"
	@echo "make bench   how fast it is, measured here and now"
	@echo "make bench-live  how soon a fill is in the book"
	@echo "make soak    hours of it: parts killed at random while fills stream in, and a whole day compressed"
	@echo "make clean   remove the environments (your data in ~/.position_pipeline stays)"

run: $(VENV)/installed
	@exec $(VENV)/bin/position-pipeline up

test: lint unit ib-async

lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# One more than the two processors of a small machine: a third of the time tests wait for processes, locks and timeouts.
unit: $(VENV)/installed-dev
	$(VENV)/bin/python -m pytest -n 3 --dist loadfile

# The adapter and the simulator once more, with the successor of ib_insync. The two libraries cannot share an environment.
ib-async: $(IB_ASYNC_VENV)/installed
	PYTHONPATH=. $(IB_ASYNC_VENV)/bin/python -m pytest -o addopts="-q" position_pipeline_tests/simulator $(wildcard position_pipeline_tests/brokers/test_ibkr*.py)

bench: $(VENV)/installed-dev
	$(VENV)/bin/python -m benchmarks.sync
	$(VENV)/bin/python -m benchmarks.accounting
	$(VENV)/bin/python -m benchmarks.scale

# From a fill on the wire to its committed position; some minutes, on a machine that does nothing else.
bench-live: $(VENV)/installed-dev
	$(VENV)/bin/python -m benchmarks.live
	$(VENV)/bin/python -m benchmarks.live_sync

# Parts of the running product are killed, ROUNDS times, while fills stream in; then a day of syncs, compressed: what grows? Two hours or so.
ROUNDS ?= 500
soak: $(VENV)/installed-dev
	$(VENV)/bin/python -m position_pipeline_tests.crash --rounds $(ROUNDS)
	$(VENV)/bin/python -m benchmarks.soak

# Random days of fills, corporate actions, transfers and outages, from fresh seeds, until the time is over or a book is wrong.
soak-simulation: $(VENV)/installed-dev
	$(VENV)/bin/python -m position_pipeline_tests.simulation --minutes $(or $(MINUTES),5) --shrink

# nautilus_trader and beancount, for `make bench` alone; it makes them itself and does without them where it cannot.
peers: $(PEERS_VENV)/installed

$(PEERS_VENV)/installed: benchmarks/constraints-peers.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed and none was found."; exit 1; }
	$(PYTHON) -m venv $(PEERS_VENV)
	$(PEERS_VENV)/bin/python -m pip install --disable-pip-version-check --quiet --only-binary :all: --constraint $< nautilus_trader beancount
	@touch $@

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed and none was found. Name one: make PYTHON=/path/to/python3.11 run"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing into $(VENV) (once; a minute or two)"
	$(VENV)/bin/python -m pip install $(PIP_OPTIONS) --editable .
	$(VENV)/bin/python -m compileall -q position_pipeline
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(VENV)/bin/python -m pip install $(PIP_OPTIONS) --editable '.[dev]'
	@touch $@

$(IB_ASYNC_VENV)/installed: constraints-ib-async.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed and none was found."; exit 1; }
	$(PYTHON) -m venv $(IB_ASYNC_VENV)
	$(IB_ASYNC_VENV)/bin/python -m pip install --disable-pip-version-check --quiet --constraint $< ib_async tzdata pytest
	@touch $@

clean:
	rm -rf $(VENV) $(IB_ASYNC_VENV) $(PEERS_VENV)
