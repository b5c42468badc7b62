# Everything a developer or a newcomer runs. Needs python3 (3.11 or later) and make; see README.md.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: setup setup-locked demo test test-minimum lint docs clean

setup: $(STAMP)

# PIP_CONSTRAINT, unlike --constraint, also pins what the build itself needs.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# As setup, but pip refuses every file whose sha256 is not in requirements.lock; only torch comes without one.
setup-locked:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary=:all: --require-hashes --no-deps \
	  --requirement requirements.lock
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	$(BIN)/python -m pip check
	@touch $(STAMP)

demo: setup
	$(BIN)/promptgraft packs fetch dinov2-small mnist-5k
	@rm -rf demo-report
	$(BIN)/promptgraft demo --out demo-report

# One thread per worker: two single-threaded workers beat one two-threaded process on two cores.
# The leading dash: packs of npm and apt are tested only where these clients are.
test: setup
	-$(BIN)/promptgraft packs fetch --all
	OMP_NUM_THREADS=1 $(BIN)/pytest -q --numprocesses auto --maxprocesses 8 --dist worksteal

# The oldest versions that pyproject.toml allows, but for torch, in an environment of their own.
test-minimum:
	$(PYTHON) -m venv .venv-minimum
	{ $(PYTHON) tools/lower_bounds.py; grep '^torch==' constraints.txt; } > .venv-minimum/constraints.txt
	PIP_CONSTRAINT=.venv-minimum/constraints.txt .venv-minimum/bin/python -m pip install --quiet \
	  --disable-pip-version-check --editable '.[onnx,parquet]' pytest pytest-xdist hypothesis
	OMP_NUM_THREADS=1 .venv-minimum/bin/pytest -q -m "not real" --numprocesses auto --maxprocesses 8 --dist worksteal

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The pages of docs/ as a site; it stops at a link that leads nowhere.
docs: setup
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf .venv .venv-minimum demo-report build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -exec rm -rf {} +
