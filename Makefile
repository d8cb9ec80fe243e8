# Every target creates .venv and installs into it when missing or when pyproject.toml has changed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint docs report clean

demo: .venv/installed
	$(BIN)/python -m experiments.demo

# Files of tests are shared out among processes of one thread; files keep what they have prepared.
WORKERS ?= 2
test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

report: .venv/installed
	$(BIN)/python -m experiments.report

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
