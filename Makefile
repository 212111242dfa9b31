# The only door: everything that a person or CI does here is a target, `make help` lists them.
# PYTHON=/path/to/python3 overrides the interpreter that .ci/find-python finds.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
export PYTHON
# Our own tools first, the CDK's command line and (where the system has none new enough) Node among them.
export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/node_modules/.bin:$(PATH)
export CDK_DISABLE_CLI_TELEMETRY := true

ENVIRONMENT ?= sandbox
WORKERS ?= auto
ARGS ?=
SOAK_S ?= 600
SEED ?=
LOCKS := functions/requirements requirements local/aws/requirements local/aws/requirements-node
LINTED := $(wildcard app.py) infra functions local ops tests .ci
SETUP := .venv/.installed .emulator/.installed node_modules/.installed
lap = began=$$(date +%s); $(2); echo "-- $(1): $$(( $$(date +%s) - began )) s"

.PHONY: help setup check format-check lint types locks templates format test fast demo soak mutants synth deploy bring-back lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 16

setup: $(SETUP) ## make .venv, .emulator and node_modules, from hashed locks (only what changed)

# A Python of another version than the environment's forces a new one.
ifdef PYTHON
version = $(shell $(1) -c 'import sys; print(*sys.version_info[:2])' 2>/dev/null)
ifneq ($(call version,$(PYTHON)),$(call version,.venv/bin/python))
.PHONY: .venv/.installed .emulator/.installed
endif
endif

.venv/.installed: requirements.txt local/aws/requirements-node.txt .ci/venv .ci/find-python .ci/node
	@.ci/venv .venv requirements.txt
	@.ci/node .venv local/aws/requirements-node.txt
	@touch $@

.emulator/.installed: local/aws/requirements.txt .ci/venv .ci/find-python
	@.ci/venv .emulator local/aws/requirements.txt
	@touch $@

node_modules/.installed: package-lock.json package.json .npmrc .venv/.installed
	@began=$$(date +%s); npm ci --loglevel=error --no-audit --no-fund >/dev/null; \
	  echo "node_modules: Node $$(node --version), CDK $$(cdk --version | cut -d' ' -f1), $$(( $$(date +%s) - began )) s"
	@touch $@

check: format-check lint locks types templates ## every static gate, cheap ones first

format-check: .venv/.installed
	@$(call lap,format,ruff format --check --quiet $(LINTED))

lint: .venv/.installed ## ruff
	@$(call lap,lint,ruff check --quiet $(LINTED))

types: .venv/.installed ## mypy --strict over what ships and what starts it
	@$(call lap,types,mypy)

locks: .venv/.installed ## lock files: complete, hashed, no index named, both of the same versions
	@$(call lap,locks,python .ci/locks.py; pip --disable-pip-version-check check >/dev/null)

templates: .venv/.installed ## cfn-lint and cdk-nag over the template of every variant of the context
	@$(call lap,templates,python -m infra.check)

format: .venv/.installed ## rewrite the code in its format, and fix what can be fixed safely
	@ruff check --quiet --fix --exit-zero $(LINTED)
	@ruff format --quiet $(LINTED)

test: $(SETUP) ## the whole suite, those that need emulators included; ARGS="-k lease"
	@mkdir -p local/out
	@$(call lap,test,pytest -n $(WORKERS) --maxprocesses 4 --dist loadfile --cov --cov-report= $(ARGS))
	@$(if $(ARGS),true,coverage report --fail-under=100 \
	  --include='functions/token_rotator/domain/*,functions/token_rotator/service/*')

fast: .venv/.installed ## only the tests that need no emulator; ARGS="-k lease"
	@$(call lap,fast,pytest -m "not emulator" $(ARGS))

demo: $(SETUP) ## the whole story on the emulators; KEEP=1 leaves it running, BREAK=<check> breaks it
	@$(call lap,demo,python -m local.demo $(if $(KEEP),--keep) $(if $(BREAK),--break $(BREAK)))

soak: $(SETUP) ## ten minutes of readers, faults and killed functions on the emulators; SOAK_S=60 SEED=1
	@$(call lap,soak,python -m local.soak --seconds $(SOAK_S) $(if $(SEED),--seed $(SEED)) $(ARGS))

mutants: $(SETUP) ## take out each guard of the protocol in turn: some check must fail each time; ARGS="--only doubt"
	@$(call lap,mutants,python -m local.mutants $(ARGS))

synth: $(SETUP) ## cdk.out, with the bundle; ENVIRONMENT=production
	@$(call lap,synth,cdk synth --quiet -o cdk.out -c environment=$(ENVIRONMENT) $(ARGS))

deploy: $(SETUP) ## deploy to the AWS account of your credentials; ENVIRONMENT=production
	@cdk deploy -c environment=$(ENVIRONMENT) $(ARGS)

bring-back: .venv/.installed ## grants from a restored table, each marked in doubt; FROM=<restored> TO=<live> ARGS=--dry-run
	@PYTHONPATH=functions python -m ops.bring_back "$(FROM)" "$(TO)" $(ARGS)

lock: .venv/.installed ## resolve the lock files anew; ARGS=--upgrade for the newest versions
	@for lock in $(LOCKS); do \
	  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	    --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
	    $(ARGS) $$lock.in -o $$lock.txt; done
	@npm install --silent --package-lock-only --no-audit --no-fund
	@python .ci/locks.py

clean: ## remove what the targets made, the environments included
	@rm -rf .venv .emulator node_modules .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	  .coverage .coverage.* cdk.out local/out
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
