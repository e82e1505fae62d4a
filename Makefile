# `make setup` builds .venv; everything else depends on it. No target needs root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)
OPENAI_1 := .venvs/openai-1.109.1
CODE := src tests examples recipes benchmarks tools

# Two test processes with one thread each: more of either is slower on a laptop's or a runner's two cores.
PYTEST_WORKERS ?= 2
export OMP_NUM_THREADS ?= 1
# A thread that waits for others must not spin: on two busy cores that made training steps several times slower.
export OMP_WAIT_POLICY ?= PASSIVE
export HF_HUB_OFFLINE ?= 1

.PHONY: setup demo test test-slow check fmt docs clients clean

setup: $(STAMP)

# torch goes in first and alone, by its exact pin: an open range would let pip pull another build with its CUDA wheels.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH) -c constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# make demo [DATA=train.jsonl] [TEST=test.jsonl] [VALID=valid.jsonl] [OUT=demo-output]
DEMO_ARGS = $(if $(DATA),--train $(DATA)) $(if $(TEST),--test $(TEST)) $(if $(VALID),--valid $(VALID)) $(if $(OUT),--out $(OUT))
demo: $(STAMP)
	unset OMP_NUM_THREADS && $(BIN)/python examples/demo.py $(DEMO_ARGS)

check: $(STAMP)
	$(BIN)/ruff format --check $(wildcard $(CODE))
	$(BIN)/ruff check $(wildcard $(CODE))
	$(BIN)/pyright
	PYTHONPATH=src $(BIN)/lint-imports --no-logo
	$(BIN)/vulture
	$(BIN)/pytest -q tests/docs -m "not wire and not slow"

test: check clients
	$(BIN)/pytest -q -n $(PYTEST_WORKERS) --dist worksteal -m "not slow"

test-slow: $(STAMP) clients
	$(BIN)/pytest -q -m slow

fmt: $(STAMP)
	$(BIN)/ruff format $(wildcard $(CODE))
	$(BIN)/ruff check --fix $(wildcard $(CODE))

# Rewrites the pages that are generated from the code.
docs: $(STAMP)
	PYTHONPATH=src $(BIN)/python tools/generated_pages.py

# The oldest 1.x SDK line we promise, in an environment of its own for the wire tests.
clients: $(OPENAI_1)/.installed
$(OPENAI_1)/.installed:
	$(PYTHON) -m venv $(OPENAI_1)
	$(OPENAI_1)/bin/python -m pip install --quiet --disable-pip-version-check openai==1.109.1 requests
	touch $@

clean:
	rm -rf $(VENV) .venvs build dist demo-output .pytest_cache .ruff_cache .hypothesis .import_linter_cache
