# Every target installs what it needs into .venv on its first call; a second call starts at once.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OPENCV := $(shell grep '^opencv-python-headless==' constraints.txt)
export OMP_NUM_THREADS ?= 1
# Threads that wait must not spin: on a machine that is busy otherwise, two of them were ten times slower than one.
export OMP_WAIT_POLICY ?= PASSIVE
export TOKENIZERS_PARALLELISM = false

.PHONY: help install demo test test-slow test-slurm lint format experiments conformance clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 14

install: $(STAMP)  ## create .venv with everything (all extras, tested versions)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; call make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,sweep,metrics,dashboard]'
	# pyiqa's dependencies bring opencv-python, which overwrites the headless build and needs libGL: put ours back last.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps '$(OPENCV)'
	touch $(STAMP)

demo: install  ## train, judge and upscale the miniature on real photographs; writes an HTML page (under 10 minutes)
	OMP_NUM_THREADS=$$($(BIN)/python -c 'import os; print(os.cpu_count())') $(BIN)/python -m vsrbench.demo $(ARGS)

test: install  ## the normal tests
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

test-slow: install  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow $(ARGS)

SLURM := munge slurmctld slurmd slurm-client
test-slurm: install  ## a sweep, DDP and a requeue on a real one-node SLURM; as root installs Debian's packages
	@if ! command -v sbatch >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(SLURM) \
	    || echo "could not install $(SLURM): the test says that it is skipped"; fi
	$(BIN)/python -m pytest -m slurm -rs -s tests/cluster/test_slurm.py $(ARGS)

lint: install  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install  ## let ruff format and sort imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

experiments: install  ## every file of experiments/ at size=tiny on data=sample, a few steps each
	$(BIN)/python -m vsrbench.smoke_test $(ARGS)

conformance: install  ## compare every protocol's bicubic row with the printed one: make conformance DATA=DIR
	@test -n "$(DATA)" || { echo "give the folder of your data sets: make conformance DATA=DIR"; exit 2; }
	$(BIN)/python -m vsrbench.conformance $(DATA) $(ARGS)

clean:  ## remove the environment and caches; run folders stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache dist build
