# make demo, make test, make lint: each sets up .venv on its first call.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

# A version manager's shim can exist without the version behind it, so ask it to run.
PYTHON ?= $(shell python3.11 -c '' 2>/dev/null && echo python3.11 || echo python3)
BIN := .venv/bin

# Nothing here needs a model hub.
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test lint

help:
	@echo "make demo   a RAG chain on the embedded model, with and without virtual tokens"
	@echo "make test   the test suite"
	@echo "make lint   ruff and mypy"

demo: .venv/.installed-demo
	@$(BIN)/spring-rag demo

test: .venv/.installed-dev
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 $(ARGS)

lint: .venv/.installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy spring_integrations

# One stamp per extra; "dev" includes "demo".
.venv/.installed-%: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "Python 3.11 or later is needed here, this is %d.%d; name another with: make PYTHON=..." % v[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing spring-integrations[$*] into .venv; the first time takes some minutes"
	@$(BIN)/python -m pip install --quiet --editable '.[$*]' --constraint constraints.txt
	@touch $@ $(if $(filter dev,$*),.venv/.installed-demo)
