# Python 3.11 or newer and make are all that is needed; everything else is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORES ?= 2
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-slow test-cluster test-browser lint format type schema lock clean help

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(READY): envs/dev.lock.txt pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r envs/dev.lock.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

demo: $(READY) ## Run the default study end to end: offline, CPU, minutes
	snakemake --cores $(CORES) --scheduler greedy --quiet all --rerun-incomplete

# What takes longest begins first, so that no core is left alone with it at the end.
test: $(READY) ## Run the fast tests
	pytest -m "not slow and not cluster and not browser" -n $(CORES) --dist loadfile tests/workflow tests

test-slow: $(READY) ## Run the slow tests
	pytest -m "slow and not cluster and not browser" -n $(CORES) --durations=10 tests/unit
	pytest -m "slow and not cluster and not browser" -n $(CORES) --dist loadfile --durations=30 tests/integration/test_studies.py tests/integration/test_toy_reasoning.py tests/integration tests/workflow

test-cluster: $(READY) ## Run the tests on a real SLURM of two nodes, started for them (root, apt-get)
	pytest -m cluster -rs tests/cluster; status=$$?; \
	$(BIN)/python tests/cluster/cluster.py down; exit $$status

test-browser: $(READY) ## Open a report in a real Chromium (Debian: chromium, chromium-driver)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r tests/browser/requirements.txt
	pytest -m browser -rs tests/browser

lint: $(READY) ## Check style: ruff, snakefmt, snakemake --lint
	ruff check src tests benchmarks
	ruff format --check src tests benchmarks
	snakefmt --check Snakefile workflow
	$(BIN)/python workflow/lint.py

format: $(READY) ## Format all code
	ruff check --fix src tests benchmarks
	ruff format src tests benchmarks
	snakefmt Snakefile workflow

type: $(READY) ## Check types: mypy, strict on src
	mypy

schema: $(READY) ## Write the JSON schema of a study from its typed model
	$(BIN)/python -m xstilts.schema workflow/schemas/study.schema.json

lock: ## Write the locks of the environments
	envs/lock.sh

clean: ## Remove the environment; results stay
	rm -rf $(VENV)
