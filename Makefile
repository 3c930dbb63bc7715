# `make up` starts the mesh, `make test` proves it. Both set up what they need, here in this
# folder: .tools holds uv, .venv the packages that uv.lock names, with their checksums.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON ?= python3
UV_VERSION := 0.13.9
# An installed uv will do; else the project gets its own.
UV := $(or $(shell command -v uv),.tools/bin/uv)
BIN := .venv/bin
READY := .venv/.ready
# Those that fit every machine: not PyTorch (sentence-transformers), not CUDA (onnx-gpu, faiss-gpu).
EXTRAS := edge local onnx genai triton redis postgres tokens otel client rag faiss pgvector qdrant chroma plot
# Tests wait for something half of their time: two processes run them. 0: this one does.
WORKERS ?= 2
# Brings ctest along.

export UV_HTTP_TIMEOUT ?= 300
export UV_PYTHON_DOWNLOADS ?= never
export UV_PROJECT_ENVIRONMENT := $(CURDIR)/.venv
# Somebody else's environment must not be changed, nor seen.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help install up test lint check gen native torch bench golden clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

install: $(READY) ## create or update the environment (up and test do it by themselves)

up: $(READY) ## start the mesh: make up ARGS="--http-port 9000"
	@exec $(BIN)/astromesh up $(ARGS)

# A file's tests stay together: many share a server, those of the README are one tour.
test: $(READY) ## run all tests: make test ARGS="-k breaker"
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(READY) ## format, lint, types, import rules, contract, generated code
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python protos/generate.py --check
	@$(BIN)/buf lint
	@$(MAKE) breaking

# Once there is a release, its contract must keep working: packages named v1 only ever grow.
.PHONY: breaking
breaking: $(READY)
	@tag=$$(git describe --tags --abbrev=0 2>/dev/null || true); \
	if [ -n "$$tag" ]; then \
	    git show "$$tag:gen/astromesh.binpb" > build/released.binpb; \
	    $(BIN)/buf breaking protos --against build/released.binpb; \
	fi

check: lint test ## everything that must hold before a commit

gen: $(READY) ## write gen/ anew from protos/
	@$(BIN)/python protos/generate.py

native: $(READY) ## test the C++ alone, under the sanitizers
	@$(BIN)/cmake -S native_cpp/tests -B build/native
	@$(BIN)/cmake --build build/native
	@$(BIN)/ctest --test-dir build/native --output-on-failure

.PHONY: faults
faults: $(READY) ## kill, stop and starve what runs, a hundred times at random (an hour)
	@ASTROMESH_FAULT_SEEDS=100 $(BIN)/python -m pytest tests/faults $(ARGS)

# PyTorch is too big to be everybody's. By pip, which may know of a smaller build for this machine.
torch: $(READY) ## test sentence-transformers, in an environment of its own with PyTorch (1.4 GB or more)
	@$(BIN)/python -m venv build/torch
	@build/torch/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 "sentence-transformers>=6.2"
	@site='import sysconfig; print(sysconfig.get_path("purelib"))'; \
	$(BIN)/python -c "$$site" > "$$(build/torch/bin/python -c "$$site")/mesh.pth"
	@build/torch/bin/python -m pytest tests/contract/test_sentence_transformers.py $(ARGS)

bench: $(READY) ## measure, next to the upstream package where it can be had
	@$(BIN)/python -m bench $(ARGS)

golden: $(READY) ## rewrite tests/golden; review reads the difference
	@ASTROMESH_GOLDEN=write $(BIN)/python -m pytest -q tests $(ARGS)

clean: ## remove everything that was built or downloaded, but not the state of the mesh
	@rm -rf .venv .tools build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

SOURCES := uv.lock pyproject.toml CMakeLists.txt $(wildcard native_cpp/src/* native_cpp/include/*/*)

# The interpreter itself, not a shim of pyenv's: for another path uv makes .venv anew.
$(READY): $(SOURCES) | $(UV)
	@$(UV) sync --frozen $(addprefix --extra ,$(EXTRAS)) --python "$$($(PYTHON) -c 'import sys; print(sys._base_executable)')"
	@touch $@

.tools/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1): make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "installing uv $(UV_VERSION) into .tools"
	@if $(PYTHON) -m venv .tools >/dev/null 2>&1; then \
	    .tools/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); \
	elif $(PYTHON) -m pip --version >/dev/null 2>&1; then \
	    $(PYTHON) -m pip install --quiet --disable-pip-version-check --upgrade --target .tools/packages uv==$(UV_VERSION); \
	    mkdir -p .tools/bin && ln -sf ../packages/bin/uv .tools/bin/uv; \
	else \
	    echo "neither venv nor pip is there: sudo apt-get install python3-venv" >&2; exit 1; \
	fi
