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

.PHONY: help install demo test test-slow lint format experiments clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 14

install: $(STAMP)  ## create .venv with everything (all extras, tested versions)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; call make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,sweep,metrics]'
	# pyiqa's dependencies bring opencv-python, which overwrites the headless build and needs libGL: put ours back last.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps '$(OPENCV)'
	touch $(STAMP)

demo: install  ## train, judge and upscale the miniature on real photographs; writes an HTML page (under 10 minutes)
	OMP_NUM_THREADS=$$($(BIN)/python -c 'import os; print(os.cpu_count())') $(BIN)/python -m vsrbench.demo $(ARGS)

test: install  ## the normal tests
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

test-slow: install  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: install  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install  ## let ruff format and sort imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

experiments: install  ## every file of experiments/ at size=tiny on data=sample, a few steps each
	$(BIN)/python -m vsrbench.rehearse $(ARGS)

clean:  ## remove the environment and caches; run folders stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache dist build
