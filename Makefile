# Every target creates .venv and installs into it when missing or when pyproject.toml has changed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-fast test-minimal coverage lint report docs wheel clean

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

# The wheel without extras, installed elsewhere: every module of it can be imported, and the demo's training runs.
test-minimal: wheel
	rm -rf build/minimal && $(PYTHON) -m venv build/minimal
	build/minimal/bin/python -m pip install --quiet dist/*.whl
	cd build && minimal/bin/python -c "$$IMPORT_ALL"
	cd build && minimal/bin/optinc experiment=demo debug=two_batches hydra.run.dir=minimal/run

define IMPORT_ALL
import importlib, pkgutil, optinc
names = [info.name for info in pkgutil.walk_packages(optinc.__path__, "optinc.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(f"{len(names)} modules of {optinc.__path__[0]}")
endef
export IMPORT_ALL

# Source distribution and wheel, in dist.
wheel: .venv/installed-dev
	rm -rf dist && $(BIN)/python -m build --outdir dist .

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
