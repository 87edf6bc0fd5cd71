# make demo   a job over made-up data, start to finish
# make test   what CI runs: lint, types, layers, tests

PYTHON ?= python3

# Whatever the shell is set up for, only .venv is used.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV
export PYTHON

BIN := .venv/bin

.PHONY: help demo test test-slow test-slurm test-netns test-browser lint house types layers tests bench install install-test clean
.DEFAULT_GOAL := help
# Checks that share two cores and one terminal are best read one after the other.
.NOTPARALLEL:

help:
	@echo "make demo       run an example job over sample data"
	@echo "make test       lint, types, layers and tests, as CI does"
	@echo "make test-slow  the tests that take long"
	@echo "make test-slurm the tests that install and start a Slurm, as root on Debian"
	@echo "make test-netns the tests that take root and network namespaces"
	@echo "make test-browser the tests in a browser, with Chromium and its driver"
	@echo "make lint       ruff check, ruff format --check, and the bounds on sizes (make house)"
	@echo "make bench      times against other ways to do the same; ARGS=--help says more"
	@echo "make clean      remove .venv, demo and caches"
	@echo "PYTHON=...      the Python to make .venv with (3.11 or newer; now $(PYTHON))"

demo: install
	@scripts/demo

test: lint types layers tests

lint: install-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python scripts/house

house: install-test
	$(BIN)/python scripts/house

types: install-test
	$(BIN)/python -m mypy --strict

layers: install-test
	$(BIN)/lint-imports

tests: install-test
	$(BIN)/python -m pytest -q -m "not slow" -n 4 --dist loadfile

test-slow: install-test
	$(BIN)/python -m pytest -q --timeout 1000 -m "slow and not netns and not slurm and not browser" || [ $$? -eq 5 ] # 5: no test is marked so

test-slurm: install-test
	$(BIN)/python -m pytest -q --timeout 1000 -m slurm

test-netns: install-test
	$(BIN)/python -m pytest -q --timeout 1000 -m netns

test-browser:
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || { \
		echo "There is no Chromium with its driver. On Debian, as root: apt-get install chromium chromium-driver" >&2; \
		exit 2; }
	@scripts/install test,browser
	$(BIN)/python -m pytest -q --timeout 1000 -m browser

bench: install
	$(BIN)/python -m benchmarks $(ARGS)

install:
	@scripts/install

install-test:
	@scripts/install test

clean:
	rm -rf .venv demo build dist *.egg-info .coverage .coverage.* \
		.pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
