# make demo: a complete comparison on real data, ending with the path of its report.
# make test: every check and test.
PYTHON ?= python3
BIN := .venv/bin
# uv is quicker where it is installed; pip does the same.
UV := $(shell command -v uv 2>/dev/null)
ifeq ($(UV),)
VENV := $(PYTHON) -m venv .venv
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
else
VENV := uv venv --quiet --allow-existing --python $(PYTHON) .venv
INSTALL := uv pip install --quiet --python $(BIN)/python
endif

.PHONY: setup demo test lint types docs bench format clean

.venv/.demo: pyproject.toml constraints.txt
	$(VENV)
	$(INSTALL) -c constraints.txt -e ".[report]"
	@touch $@

.venv/.dev: pyproject.toml constraints.txt
	$(VENV)
	$(INSTALL) -c constraints.txt -e ".[dev]"
	@touch $@ .venv/.demo

setup: .venv/.dev

demo: .venv/.demo
	$(BIN)/equipoise run digits

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/codespell src tests docs examples benchmarks README.md CHANGELOG.md CONTRIBUTING.md

types: .venv/.dev
	$(BIN)/mypy

test: lint types docs
	$(BIN)/pytest -n auto

docs: .venv/.dev
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

bench: .venv/.dev
	$(BIN)/python benchmarks/steps.py --json docs/speed.json
	$(BIN)/python benchmarks/solvers.py

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv docs/_build build dist .pytest_cache .mypy_cache .ruff_cache
