# From a fresh clone: Python 3.11 or newer, make and the package registry are all that is needed.
# Everything is built in .venv, once; a change to pyproject.toml brings it up to date.

WORKERS ?= auto

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# The first of these that is new enough and can make an environment; a given PYTHON is the only one.
PYTHONS := $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11)
SUITABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test check bench soak mutation mutants docs generate clean distclean

help:
	@echo "make demo      show the protocol at work: a gateway, a client and faults on the way"
	@echo "make test      run the whole test suite; the core's branches must all be covered"
	@echo "make check     lint, formatting, types, architecture and documentation"
	@echo "make bench     measure speed against named references"
	@echo "make soak      200 clients, two tabs each, through faults for ten minutes; SOAK='--minutes 1' for less"
	@echo "make attacks   attack servers of both adapters, and say what came of it; five minutes"
	@echo "make mutants   run every known bug against every layer, and write the table of them"
	@echo "make mutation  change the core in one place at a time; a quarter of an hour or more"
	@echo "make docs      build the documentation into docs/_build/html"
	@echo "make generate  write the generated files of the documentation again"
	@echo "make clean     remove everything that was built; make distclean the environment too"

# An environment that was left half-made, or whose Python is gone, is made anew.
define make_venv
	@if ! $(BIN)/python -c '$(SUITABLE)' 2>/dev/null || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		for python in $(PYTHONS); do \
			if "$$python" -c '$(SUITABLE)' >/dev/null 2>&1; then \
				echo "making $(VENV) with $$("$$python" --version) ($$python)"; \
				"$$python" -m venv --clear $(VENV) || exit 1; \
				exit 0; \
			fi; \
		done; \
		echo "gatewayproto needs Python 3.11 or newer, with the modules venv and ensurepip." >&2; \
		echo "Tried: $(PYTHONS). Name one that has them: make PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi
endef

$(VENV)/.stamp-run: pyproject.toml
	$(make_venv)
	$(PIP) install --editable '.[cli]'
	@touch $@

$(VENV)/.stamp-dev: pyproject.toml
	$(make_venv)
	$(PIP) install --editable '.[dev]'
	@touch $(VENV)/.stamp-run $@

demo: $(VENV)/.stamp-run
	$(BIN)/gatewayproto demo

test: $(VENV)/.stamp-dev
	$(BIN)/python -m pytest --numprocesses=$(WORKERS) --maxprocesses=4 --dist=worksteal \
		--cov --cov-report=term-missing:skip-covered --cov-fail-under=100

check: $(VENV)/.stamp-dev
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pyright --warnings
	$(BIN)/lint-imports
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

bench: $(VENV)/.stamp-dev
	$(BIN)/python tests/bench/bench.py

soak: $(VENV)/.stamp-dev
	$(BIN)/python -m tests.soak $(SOAK)

attacks: $(VENV)/.stamp-dev
	$(BIN)/python -m tests.attacks

mutants: $(VENV)/.stamp-dev
	$(BIN)/python -m tests.mutants.matrix

mutation: $(VENV)/.stamp-dev
	$(BIN)/python -m tests.mutation.run

docs: $(VENV)/.stamp-dev
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

generate: $(VENV)/.stamp-dev
	$(BIN)/python docs/generate.py

clean:
	rm -rf build dist docs/_api docs/_build htmlcov .coverage .coverage.* \
		.hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
