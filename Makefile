# make run [REPLAY=folder] [SPEED=n] [LIMITED_MODE=true] · make test [ARGS=…] [JOBS=n] · make lint · make wheel · make api · make bench · make lock · make clean
# Each step leaves a stamp in .venv, so the second time only what changed is done again.

VENV := .venv
BIN := $(VENV)/bin
CORE := $(wildcard protocol/native/*.c protocol/native/*.h) protocol/native/build.py
PIP := $(BIN)/python -m pip --disable-pip-version-check
LOCK := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	--no-annotate --quiet --upgrade --group build

# A package with an __all__ hides its modules from the reference, so those of two rooms are named.
DOCUMENTED = tapecast $(addprefix tapecast.,protocol runtime feeder consumers monitors) '!tapecast.protocol.native' \
	$(subst /,.,$(patsubst %.py,tapecast.%,$(filter-out %__init__.py,$(wildcard feeder/replay/*.py feeder/venues/*.py))))

JOBS ?= 3

ifdef LIMITED_MODE
export LIMITED_MODE
endif

.PHONY: help run test lint wheel api bench reliability lock clean setup FORCE
.DEFAULT_GOAL := help

help:
	@echo "make run                       start the fleet: tapecast up"
	@echo "make run REPLAY=folder         the same from the recordings (*.jsonl, *.jsonl.gz) of a folder [SPEED=10]"
	@echo "make run LIMITED_MODE=true     ten symbols of each category"
	@echo "make test [ARGS='-k books']    the tests, three at a time [JOBS=3]; one after another with JOBS=0"
	@echo "make lint                      style, types, import rules, generated files"
	@echo "make wheel                     the sdist and a wheel for every Linux of its kind and Python 3.11 or later: dist/"
	@echo "make api                       the reference of all modules, from their docstrings: api/index.html"
	@echo "make bench [ARGS=--smoke]      the benchmarks"
	@echo "make reliability [ARGS=--short] put faults into everything and write docs/reliability.md"
	@echo "make lock                      renew the lock files (needs uv)"
	@echo "make clean                     remove everything that was made here"

run: $(VENV)/.package
	@exec $(BIN)/tapecast up $(if $(REPLAY),--replay "$(REPLAY)") $(if $(SPEED),--speed $(SPEED)) $(ARGS)

setup: $(VENV)/.dev $(VENV)/.package

test: setup
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tapecast.protocol.generate --check

wheel: setup $(VENV)/.wheel
	PATH="$(abspath $(BIN)):$$PATH" .ci/wheel dist

api: setup $(VENV)/.docs
	$(BIN)/python -m pdoc --docformat markdown --output-directory api $(DOCUMENTED)

bench: setup $(VENV)/.bench
	@set -e; for file in $$(grep -l '^if __name__' benchmarks/*.py); do \
		name=benchmarks.$$(basename "$$file" .py); \
		echo "== $$name"; $(BIN)/python -m "$$name" $(ARGS); \
	done

reliability: setup
	$(BIN)/python -m tests.reliability $(ARGS)

lock:
	$(LOCK) --output-file requirements.lock
	$(LOCK) --group dev --constraint requirements.lock --output-file requirements-dev.lock
	$(LOCK) --group wheel --constraint requirements.lock --constraint requirements-dev.lock --output-file requirements-wheel.lock
	$(LOCK) --group docs --constraint requirements.lock --constraint requirements-dev.lock --output-file requirements-docs.lock
	$(LOCK) --group bench --constraint requirements.lock --constraint requirements-dev.lock --output-file requirements-bench.lock

clean:
	rm -rf $(VENV) api build dist *.egg-info protocol/_native* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.created:
	@.ci/prerequisites
	"$$(.ci/prerequisites --python)" -m venv $(VENV)
	@touch $@

$(VENV)/.locked: requirements.lock $(VENV)/.created
	$(PIP) install --quiet --require-hashes -r requirements.lock
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.locked
	$(PIP) install --quiet --require-hashes -r requirements-dev.lock
	@touch $@

$(VENV)/.wheel: requirements-wheel.lock $(VENV)/.dev
	$(PIP) install --quiet --require-hashes -r requirements-wheel.lock
	@touch $@

$(VENV)/.docs: requirements-docs.lock $(VENV)/.dev
	$(PIP) install --quiet --require-hashes -r requirements-docs.lock
	@touch $@

$(VENV)/.bench: requirements-bench.lock $(VENV)/.dev
	@if $(PIP) install --quiet --require-hashes -r requirements-bench.lock; then touch $@; \
	else echo "packages to compare with not installed: the benchmarks leave them out" >&2; fi

$(VENV)/.package: pyproject.toml setup.py $(CORE) $(VENV)/.locked $(if $(wildcard protocol/_native*.so),,FORCE)
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

FORCE:
