# Every target creates .venv and installs into it when missing or when pyproject.toml or
# optinc/__init__.py, which holds the version, has changed.
PYTHON ?= python3
BIN := .venv/bin
# pip would compile 22,000 modules, a minute of a core; Python compiles the 6,000 that are imported,
# and keeps them. Where the environment forbids that, every process would compile them again.
unexport PYTHONDONTWRITEBYTECODE
INSTALL = $(BIN)/python -m pip install --quiet --no-compile

.PHONY: demo test test-fast test-oldest test-minimal coverage lint report docs wheel clean

demo: .venv/installed
	$(BIN)/python -m experiments.demo

# Files of tests are shared out among processes of one thread; files keep what they have prepared.
WORKERS ?= 2
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: .venv/installed
	$(PYTEST)

# What is not slow.
test-fast: .venv/installed
	$(PYTEST) -m "not slow"

# The same with the oldest dependencies that pyproject.toml allows, in an environment of their own;
# they use what newer ones below them deprecate.
test-oldest: BIN := build/oldest/bin
test-oldest:
	rm -rf build/oldest && $(PYTHON) -m venv build/oldest
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --resolution lowest-direct --editable ".[test]"
	$(PYTEST) -m "not slow" -W ignore::DeprecationWarning -W ignore::FutureWarning

# The wheel without extras, tried in another folder: every module is imported, and the demo trained.
test-minimal: wheel
	rm -rf build/minimal && $(PYTHON) -m venv build/minimal
	build/minimal/bin/python -m pip install --quiet dist/*.whl
	cd build/minimal && bin/python ../../.ci/try_wheel.py

# Of the fast tests, in this process tree only: jobs that tests start as a user would do not count.
coverage: .venv/installed
	$(PYTEST) -m "not slow" --cov=optinc --cov-report=term:skip-covered

# Source distribution and wheel, in dist, by tools of their own: neither needs torch.
wheel:
	test -x build/tools/bin/python || $(PYTHON) -m venv build/tools
	build/tools/bin/python -m pip install --quiet "build>=1.2" "twine>=6"
	rm -rf dist && build/tools/bin/python -m build
	build/tools/bin/python -m twine check --strict dist/*

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
	$(BIN)/zizmor --quiet --offline --strict-collection .github

.venv/installed: pyproject.toml optinc/__init__.py
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) --editable ".[test]"
	touch $@

.venv/installed-dev: pyproject.toml optinc/__init__.py
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) --editable ".[dev]"
	touch .venv/installed $@

clean:
	rm -rf .venv build dist runs
