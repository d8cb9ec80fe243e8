# Every target creates .venv and installs into it when missing or when pyproject.toml has changed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-fast coverage lint report docs clean

demo: .venv/installed
	$(BIN)/python -m experiments.demo

# Files of tests are shared out among processes of one thread; files keep what they have prepared.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: .venv/installed
	$(PYTEST)

# What is not slow.
test-fast: .venv/installed
	$(PYTEST) -m "not slow"

# Of the fast tests, in this process tree only: jobs that tests start as a user would do not count.
coverage: .venv/installed
	$(PYTEST) -m "not slow" --cov=optinc --cov-report=term:skip-covered

report: .venv/installed
	$(BIN)/python -m experiments.report

# The site, build/site/index.html; it executes the notebooks.
docs: .venv/installed
	$(BIN)/python -m mkdocs build --strict

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv build dist runs
