# What there is to do with this checkout. `make` alone says what.
#
# Everything Python goes into .venv, at the versions of constraints.txt. Two packages of Debian are for the tests alone: the
# MariaDB server's programs (without its service: nothing is started but by a test, which stops it) and GLPK's solver.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo $$p; break; fi; done)
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/ready
SPARK := $(VENV)/ready-spark
DOCS := $(VENV)/ready-docs
LOG := $(VENV)-setup.log
TEST_PACKAGES := mariadb-server-core mariadb-client-core glpk-utils openssh-server git default-jre-headless chromium chromium-driver zsh fish
APT := DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300

# Runs one command, quietly unless it fails.
quietly = ( $(1) ) >$(LOG) 2>&1 || { code=$$?; cat $(LOG) >&2; echo "make: this failed: $(strip $(2))" >&2; exit $$code; }

# The SSH server's package comes with a service, which is not wanted: neither now (Debian's policy-rc.d), nor at the next boot.
without_services = had_sshd=$$(PATH="$$PATH:/usr/sbin" command -v sshd); policy=/usr/sbin/policy-rc.d; \
	if [ ! -e $$policy ]; then trap "rm -f $$policy" EXIT; printf '\#!/bin/sh\nexit 101\n' >$$policy; chmod 755 $$policy; fi;
not_at_boot = if [ -z "$$had_sshd" ] && command -v systemctl >/dev/null; then systemctl disable ssh.service ssh.socket >/dev/null 2>&1; fi;

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo docs unit test coverage test-packages spark lint soak bench bench-state bench-country dashboard-assets clean

help: ## what there is to do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## the virtual environment, once

# The stamp comes last: an install that was broken off is done again. A link is taken away, never what it leads to (as venv --clear does).
$(READY): constraints.txt
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or newer is needed: apt-get install python3 python3-venv," \
		"or name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' >/dev/null 2>&1 || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "Installing python3-venv ..." >&2; \
			$(call quietly, $(APT) update && $(APT) install -y --no-install-recommends python3-venv, apt-get); \
		else \
			echo "make: $(PYTHON) cannot make virtual environments: type 'sudo apt-get install python3-venv' and run make again" >&2; \
			exit 1; \
		fi; }
	@echo "Setting up $(VENV) (once; about a minute) ..." >&2
	@rm -rf $(VENV)
	@$(call quietly, $(PYTHON) -m venv $(VENV), the making of $(VENV))
	@$(call quietly, $(PY) -m pip install --quiet --disable-pip-version-check --no-input --no-deps --only-binary :all: -r constraints.txt, \
		pip install; see above)
	@$(call quietly, $(PY) -m pip check --disable-pip-version-check, the check of the installed packages)
	@rm -f $(LOG)
	@touch $@

spark: $(SPARK) ## Spark for Python, once (500 MB); --spark needs it, or a cluster's own Spark

$(SPARK): $(READY) constraints-spark.txt
	@echo "Installing Spark for Python into $(VENV) (once; a minute or two) ..." >&2
	@$(call quietly, $(PY) -m pip install --quiet --disable-pip-version-check --no-input --no-deps --only-binary :all: \
		-c constraints-spark.txt py4j setuptools, pip install; see above)
	@$(call quietly, $(PY) -m pip install --quiet --disable-pip-version-check --no-input --no-deps --no-build-isolation \
		-c constraints-spark.txt pyspark, pip install; see above)
	@if command -v java >/dev/null; then $(call quietly, $(PY) -m dbrecon.spark.jvm, the archive of Spark\'s classes); fi
	@rm -f $(LOG)
	@touch $@

$(DOCS): $(READY) constraints-docs.txt
	@echo "Installing what the documentation is made with into $(VENV) (once; half a minute) ..." >&2
	@$(call quietly, $(PY) -m pip install --quiet --disable-pip-version-check --no-input --no-deps --only-binary :all: \
		-r constraints-docs.txt, pip install; see above)
	@$(call quietly, $(PY) -m pip check --disable-pip-version-check, the check of the installed packages)
	@rm -f $(LOG)
	@touch $@

docs: $(DOCS) ## the documentation site and the man pages, in docs/_build/; runs the tutorials (a minute)
	@$(PY) -m sphinx -E -q -W --keep-going -b html docs docs/_build/html
	@$(PY) -m dbrecon.console.man_pages docs/_build/man >/dev/null
	@echo "docs/_build/html/index.html, docs/_build/man/dbrtool.1, docs/_build/man/scheduler.1"

PRODUCT ?= sf1_2010
demo: $(READY) ## a small synthetic state, from its tables to its people, compared with the truth (PRODUCT=dhc2020)
	@$(PY) bench/demo.py --product $(PRODUCT)

# One process more than there are cores: tests wait for servers for much of their time. A module's tests stay together, for what
# they share, and modules in their order: the folders that take longest come first.
PARALLEL ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n + 1)))
PYTEST = $(PY) -m pytest -n $(PARALLEL) --dist loadfile --no-loadscope-reorder

unit: PARALLEL := $(shell nproc 2>/dev/null || echo 2)
unit: $(READY) ## the tests that need nothing but Python, but for the slow ones: half a minute on two cores
	@$(PYTEST) -p no:schemathesis -m "not slow" tests/unit

test: test-packages spark $(DOCS) lint ## lint, types, and all tests but the long ones of make soak; installs what they need (TESTS="tests/nodes": these)
	@$(PYTEST) -m "not long" $(TESTS)

coverage: test-packages spark $(DOCS) ## all tests again, and which lines of the product they run
	@$(PY) -m coverage erase
	@$(PYTEST) --cov --cov-report=term:skip-covered $(TESTS)

# Where the programs come from elsewhere, that is as good.
test-packages: $(READY)
	@if PATH="$$PATH:/usr/sbin:/sbin" && command -v mariadbd >/dev/null && command -v mariadb-install-db >/dev/null \
		&& command -v glpsol >/dev/null && command -v sshd >/dev/null && command -v git >/dev/null && command -v chromium >/dev/null && command -v chromedriver >/dev/null && command -v java >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing $(TEST_PACKAGES) for the tests ..." >&2; \
		$(without_services) \
		$(call quietly, $(APT) update && $(APT) install -y --no-install-recommends $(TEST_PACKAGES), apt-get); \
		$(not_at_boot) \
		rm -f $(LOG); \
	else \
		echo "make: the tests need MariaDB, GLPK, OpenSSH, git, Java and Chromium: type 'sudo apt-get install $(TEST_PACKAGES)' and run make test again" >&2; \
		exit 1; \
	fi
	@command -v mvn >/dev/null || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && echo "Installing maven for the tests on YARN ..." >&2 && \
		( $(APT) update && $(APT) install -y --no-install-recommends maven ) >$(LOG) 2>&1 && rm -f $(LOG); } || \
		echo "make: without Maven (apt-get install maven) the tests on YARN are skipped" >&2

lint: $(READY) ## ruff (rules and format) and mypy
	@$(PY) -m ruff check --quiet .
	@said=$$($(PY) -m ruff format --check .) || { echo "$$said" >&2; echo "make: to format them: $(PY) -m ruff format ." >&2; exit 1; }
	@$(PY) -m mypy --no-error-summary .

SERVER ?= mariadb

soak: test-packages spark ## schedulers, workers and the database killed at random, for minutes, and the long tests (SERVER=mysql, SOAK="--seconds 600 --seed 2")
	@$(PY) bench/soak.py --server $(SERVER) $(SOAK)
	@$(PYTEST) -m long

bench: test-packages ## CPU seconds and memory of each step, beside the floor
	@$(PY) bench/bench.py
	@$(PY) bench/dashboard.py

PEOPLE ?= 1000000
bench-state: $(READY) ## a synthetic state through every step (PEOPLE=10000000); kept in bench/results/
	@$(PY) bench/bench_state.py --people $(PEOPLE)

bench-country: $(READY) ## 51 synthetic states of 2010's sizes, end to end; goes on where it ended (COUNTRY="--minutes 10")
	@$(PY) bench/country.py $(COUNTRY)

dashboard-assets: ## the dashboard's files that are made from npm packages, anew (needs Node.js; they are committed)
	@cd dbrecon/dashboard && npm ci --no-audit --no-fund --silent && npm run --silent build

clean: ## removes what make made here; no experiment's files
	@rm -rf $(VENV) $(LOG) docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
