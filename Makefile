# `make setup` builds .venv; everything else depends on it. No target needs root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)
# Clients of the wire tests whose versions clash: each has a file in tests/wire/requirements/ and an environment of its own.
CLIENTS := openai-1.109.1 schemathesis-4.32.5 axe-core-4.14.1
CLIENTS_ALL := $(CLIENTS) openai-1.35.15 openai-2.54.0 azure-cli-2.91.0 azure-mgmt-13.5.0 azure-mgmt-14.1.0 \
  azure-storage-blob-12.31.1 azurite-3.35.0
WIRE_RESULTS := build/wire-results
CODE := src tests examples recipes benchmarks tools

# Two test processes with one thread each: more of either is slower on a laptop's or a runner's two cores.
PYTEST_WORKERS ?= 2
export OMP_NUM_THREADS ?= 1
# A thread that waits for others must not spin: on two busy cores that made training steps several times slower.
export OMP_WAIT_POLICY ?= PASSIVE
export HF_HUB_OFFLINE ?= 1
# One second try, shown in the summary: docs/decisions/010-second-try.md.
RERUN := --reruns 1 -raR

.PHONY: setup demo test test-slow test-wire check fmt docs clients clients-all bench-train studio-pictures clean

setup: $(STAMP)

# torch goes in first and alone, by its exact pin: an open range would let pip pull another build with its CUDA wheels.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH) -c constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# make demo [DATA=train.jsonl] [TEST=test.jsonl] [VALID=valid.jsonl] [EPOCHS=20] [OUT=demo-output]
DEMO_ARGS = $(if $(DATA),--train $(DATA)) $(if $(TEST),--test $(TEST)) $(if $(VALID),--valid $(VALID)) $(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(OUT),--out $(OUT))
demo: $(STAMP)
	unset OMP_NUM_THREADS && $(BIN)/python examples/demo.py $(DEMO_ARGS)

check: $(STAMP)
	$(BIN)/ruff format --check $(wildcard $(CODE))
	$(BIN)/ruff check $(wildcard $(CODE))
	$(BIN)/pyright
	PYTHONPATH=src $(BIN)/lint-imports --no-logo
	$(BIN)/vulture
	$(BIN)/pytest -q tests/docs -m "not wire and not slow"

# The wire tests share one live server, which two processes would have to start twice, and so do the browser tests:
# they have runs of their own. Those come first, so that the summary of the many tests is the last thing to be read, and
# all runs always happen.
test: check clients
	status=0; \
	$(BIN)/pytest -q $(RERUN) tests/wire -m "not slow and not wire_full" || status=$$?; \
	$(BIN)/pytest -q $(RERUN) tests/e2e/studio -m "not slow" || status=$$?; \
	$(BIN)/pytest -q $(RERUN) -n $(PYTEST_WORKERS) --dist worksteal -m "not slow" --ignore=tests/wire \
	  --ignore=tests/e2e/studio || status=$$?; \
	exit $$status

test-slow: $(STAMP) clients
	status=0; \
	$(BIN)/pytest -q $(RERUN) -m slow --ignore=tests/e2e/studio || status=$$?; \
	$(BIN)/pytest -q $(RERUN) -m slow tests/e2e/studio || [ $$? -eq 5 ] || status=$$?; \
	exit $$status

# Every client, version and surface; writes docs/clients.md from what ran.
test-wire: $(STAMP) clients-all
	rm -rf $(WIRE_RESULTS)
	WIRE_RESULTS=$(WIRE_RESULTS) $(BIN)/pytest -q $(RERUN) tests/wire --deselect tests/wire/test_openai_sdk.py::test_the_table_of_clients_shows_what_these_runs_did
	$(BIN)/python tools/clients_table.py $(WIRE_RESULTS)

fmt: $(STAMP)
	$(BIN)/ruff format $(wildcard $(CODE))
	$(BIN)/ruff check --fix $(wildcard $(CODE))

# Rewrites the pages that are generated from the code.
docs: $(STAMP)
	PYTHONPATH=src $(BIN)/python tools/generated_pages.py

# The pictures of docs/studio.md, from a live service; needs Debian's chromium.
studio-pictures: $(STAMP)
	PYTHONPATH=src:tests/live $(BIN)/python tools/studio_pictures.py

# Built once; built again when its requirements change.
clients: $(CLIENTS:%=.venvs/%/.installed)
clients-all: $(CLIENTS_ALL:%=.venvs/%/.installed)
.venvs/%/.installed: tests/wire/requirements/%.txt
	test -x .venvs/$*/bin/python || $(PYTHON) -m venv .venvs/$*
	.venvs/$*/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

# Without what its wheel asks for besides: the other commands' libraries are four fifths of a full installation.
.venvs/azure-cli-%/.installed: tests/wire/requirements/azure-cli-%.txt
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps -r $<
	touch $@
# The blob emulator and the judge of accessibility come from npm; a file names the version and nothing else.
NPM = mkdir -p $(@D) && cp $< $(@D)/package.json && npm install --prefix $(@D) --no-audit --no-fund --silent && touch $@
.venvs/azurite-%/.installed: tests/wire/requirements/azurite-%.json
	$(NPM)
.venvs/axe-core-%/.installed: tests/wire/requirements/axe-core-%.json
	$(NPM)

# This trainer against its peers on the same rows, in about an hour on a machine with nothing else to do.
# A look in minutes: make bench-train BENCH_ARGS="--layers 2 --rounds 1 --batch 8 --workloads 'P=0 one turn'"
PEERS := trl llamafactory torchtune
bench-train: $(STAMP) $(PEERS:%=.venvs/%/.installed)
	$(BIN)/python benchmarks/train/compare.py $(BENCH_ARGS)
# Their files name everything; torch goes in first and brings what it needs itself.
$(PEERS:%=.venvs/%/.installed): .venvs/%/.installed: benchmarks/train/requirements/%.txt
	test -x .venvs/$*/bin/python || $(PYTHON) -m venv .venvs/$*
	.venvs/$*/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	.venvs/$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	touch $@

clean:
	rm -rf $(VENV) .venvs build dist demo-output .pytest_cache .ruff_cache .hypothesis .import_linter_cache
