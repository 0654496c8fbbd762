# Python 3.11-3.13 and make are all this needs; everything else goes to .venv on first use.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check
DEMO ?=
TEST ?=
BENCH ?=
JSON ?=
SOAK_SECONDS ?= 7200
# Many tests wait for a broker or a worker, so three processes on two cores, each with a broker.
PARALLEL ?= -n 3 --dist worksteal

# Tests without a broker, a fit or a process.
UNITS ?= -n 2 --dist worksteal --ignore tests/faults --ignore tests/e2e -m "not slow and not kafka and not full and not faults"
# What make test-full takes: everything; "full or faults" is what make test leaves out.
FULL ?=

.PHONY: help setup demo check test test-full readme faults-quick faults soak-quick soak bench bench-quick bench-report lint docs audit lock clean

help:
	@echo "make setup              install everything into .venv"
	@echo "make demo [DEMO=...]    real events become scores and churn alerts (options: $(BIN)/intentstream demo --help)"
	@echo "make check              style, types and the unit tests, in half a minute"
	@echo "make test [TEST=...]    most tests, against a real Kafka, in minutes (TEST: pytest options)"
	@echo "make test-full          all tests and a shorter part of every fault row"
	@echo "make readme             run the commands of README.md and docs/tutorial.md, in their order (needs kcat)"
	@echo "make faults-quick       a shorter part of every fault row, in minutes (the soak: 45 s)"
	@echo "make faults [JSON=...]  break everything at full strength, under an hour (FAULT_SEED=... repeats; JSON: file for the rows)"
	@echo "make soak-quick         row 17 alone for ten minutes at a gentle rate, as in CI"
	@echo "make soak               two hours at half load (SOAK_SECONDS; SOAK_MOST events/s at most)"
	@echo "make bench [BENCH=...]  measure a worker and its peers, half an hour (options: $(BIN)/python -m benchmarks --help)"
	@echo "make bench-quick        the same, smaller, in 3 minutes"
	@echo "make bench-report       bench.json -> docs/benchmarks.md"
	@echo "make lint               style, types, import direction"
	@echo "make docs               the documentation as a site in build/site; fails at any warning"
	@echo "make audit              bill of materials (build/sbom.cdx.json) and known vulnerabilities"
	@echo "make lock               pin the requirements again"

setup: .venv/.dev .venv/.classes

demo: .venv/.local
	$(BIN)/intentstream demo $(DEMO)

# What a change needs before each commit. Types are checked beside the tests; mypy's cache and the tests' byte code make the second
# run fast, so byte code is written even where the environment says otherwise.
check: .venv/.dev
	@export PYTHONDONTWRITEBYTECODE=; \
	$(BIN)/mypy & types=$$!; \
	{ $(BIN)/ruff check --quiet && $(BIN)/ruff format --check --quiet && \
	$(BIN)/python -m pytest -q --no-header $(UNITS) $(TEST); } || failed=$$?; \
	wait $$types && exit $${failed:-0}

test: .venv/.classes
	$(BIN)/python -m pytest -q --durations=15 $(PARALLEL) -m "not full and not faults" $(TEST)

# The soak has a target of its own.
test-full: .venv/.classes
	$(BIN)/python -m pytest -q --durations=15 $(PARALLEL) -m "$(FULL)" --deselect tests/faults/test_17_soak.py::test_nothing_grows $(TEST)

readme: .venv/.dev
	$(BIN)/python -m tests.examples.walk

faults-quick: .venv/.classes
	$(BIN)/python -m pytest -q --durations=15 $(PARALLEL) tests/faults $(TEST)

faults: .venv/.classes
	FAULTS=full FAULTS_JSON=$(JSON) SOAK_SECONDS=600 $(BIN)/python -m pytest -q --durations=15 tests/faults $(TEST)

soak-quick: .venv/.classes
	SOAK_SECONDS=600 SOAK_MOST=200 $(BIN)/python -m pytest -q tests/faults/test_17_soak.py $(TEST)

soak: .venv/.classes
	FAULTS=full FAULTS_JSON=$(JSON) SOAK_SECONDS=$(SOAK_SECONDS) $(BIN)/python -m pytest -q tests/faults/test_17_soak.py $(TEST)

bench: .venv/.dev .venv-bench/.ready
	$(BIN)/python -m benchmarks $(BENCH)

bench-quick: .venv/.dev .venv-bench/.ready
	$(BIN)/python -m benchmarks --quick $(BENCH)

bench-report: .venv-bench/.ready
	.venv-bench/bin/python -m benchmarks.report bench.json

lint: .venv/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv-docs/.ready
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

audit: .venv/.dev
	$(BIN)/python deploy/audit.py build/sbom.cdx.json

.venv/.python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
		{ echo "intentstream needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is $$($(PYTHON) -V 2>&1): make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "==> making .venv with $$($(PYTHON) -V)"
	$(PYTHON) -m venv .venv
	@touch $@

# One stamp per set of requirements. The second step installs this project itself, in place.
.venv/.%: requirements/%.txt pyproject.toml | .venv/.python
	@echo "==> installing requirements/$*.txt (the first time downloads about 3 GB and takes some minutes)"
	$(PIP) --require-hashes -r requirements/$*.txt
	PYTHONWARNINGS=ignore $(PIP) --quiet --no-deps --no-build-isolation -e .
	@echo "==> compiling kernels, so that no first worker has to (half a minute)"
	$(BIN)/python -m stream.worker.warming
	@touch $@

# The brokers of the tests start with a quarter of the CPU, see tests/jvm.py.
.venv/.classes: .venv/.dev stream/broker/kafka.lock
	@echo "==> archiving the broker's classes (a quarter of a minute)"
	$(BIN)/python -m tests.jvm
	@touch $@

# The peers of the benchmark, which see what .venv has behind what is theirs: torch is there once.
.venv-bench/.ready: requirements/bench.txt .venv/.dev
	@echo "==> installing requirements/bench.txt into .venv-bench"
	$(BIN)/python -m venv --clear .venv-bench
	.venv-bench/bin/python -m pip install --disable-pip-version-check --require-hashes -r requirements/bench.txt
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
		$$(.venv-bench/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/product.pth
	@touch $@

# mkdocs and its theme, which nothing else needs.
.venv-docs/.ready: requirements/docs.txt
	@echo "==> installing requirements/docs.txt into .venv-docs"
	$(PYTHON) -m venv --clear .venv-docs
	.venv-docs/bin/python -m pip install --disable-pip-version-check --require-hashes -r requirements/docs.txt
	@touch $@

# The CUDA libraries that PyTorch pulls in exist for Linux alone.
LINUX_ONLY := s/^((nvidia-[a-z0-9-]+|cuda-[a-z]+|triton)==[^ ]+) \\$$/\1 ; sys_platform == "linux" \\/
lock: .venv/.python
	@command -v $(BIN)/pip-compile > /dev/null || $(PIP) 'pip-tools>=7.5'
	cd requirements && for name in base train outcomes local dev bench docs; do \
		echo "==> requirements/$$name.txt"; \
		../$(BIN)/pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe --no-header \
			--no-emit-index-url --no-emit-trusted-host --no-emit-find-links -o $$name.txt $$name.in; \
		sed -E -i.bak '$(LINUX_ONLY)' $$name.txt; rm $$name.txt.bak; \
	done

clean:
	rm -rf .venv .venv-bench .venv-docs build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
