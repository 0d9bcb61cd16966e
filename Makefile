# What is needed: Python 3.11 or later, make and the package index. The environment is made in .venv, once.
#   make demo ARGS="--peers 50 --seconds 60"      make test ARGS="-k wire -x"      make demo PYTHON=python3.12

VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# The first interpreter here that is new enough and can make environments.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	$$p -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
SOURCES := p2prec tests deploy
# gossipy, which make bench-peers measures next to p2prec, gets an environment of its own.
GOSSIPY_VENV := .venv-gossipy
# torch is for bench-peers and test-torch only. On Linux the package index's own build brings gigabytes of GPU libraries; for the
# CPU build give the index that PyTorch's install page names for it:  make bench-peers TORCH_ARGS="--index-url URL"
TORCH ?= torch==2.13.0
TORCH_ARGS ?=
WARN_OF_TORCH = test -n "$(TORCH_ARGS)" || test "$$(uname)" != Linux || echo "Without TORCH_ARGS this can be a download of" \
	"gigabytes (GPU libraries): for the CPU build see the top of the Makefile." >&2
# One peer is one thread: a linear algebra library that starts one for each core only slows many peers down.
export OPENBLAS_NUM_THREADS := 1

.PHONY: help demo test test-libp2p check bench bench-peers bench-transports engines parity results results-run test-slow test-promise test-fast test-torch test-deploy chaos testbed-test testbed-faults clean
.DEFAULT_GOAL := help

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Run a hundred peers with real people's film ratings on this machine (2 minutes)
	@$(BIN)/p2prec demo $(ARGS)

test: $(VENV)/.dev ## Run the tests, but for the slow ones
	@$(BIN)/python -m pytest -q -m "not slow" $(ARGS)

check: $(VENV)/.dev ## Check style, types and the order of imports
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/unit/test_imports.py

bench: $(VENV)/.dev ## Measure memory, CPU, start and answers of one daemon
	@$(BIN)/python tests/benchmarks/bench.py $(ARGS)

bench-peers: $(VENV)/.fast $(GOSSIPY_VENV)/.ready ## Measure the lab next to gossipy, on gossipy's own example (minutes; installs numba, torch)
	@$(BIN)/python tests/benchmarks/peers.py $(ARGS)

bench-private: $(VENV)/.dev ## Measure what a private sum costs a peer, next to an ordinary swarm's rounds (3 minutes; ARGS="--people 943": 20)
	@$(BIN)/python tests/benchmarks/private_sums.py $(ARGS)

engines: $(VENV)/.dev ## Show that the lab's two engines reach the same numbers on MovieLens-100K (2 minutes; wants the data set)
	@$(BIN)/python tests/benchmarks/engines.py $(ARGS)

parity: $(VENV)/.dev ## Hold the demo's daemons next to the vectorised computation of the same rounds (6 minutes)
	@$(BIN)/python tests/benchmarks/parity.py $(ARGS)

results: $(VENV)/.dev ## Write docs/results.md out of the reports in results/
	@$(BIN)/python -m p2prec.lab.report $(ARGS)

results-run: $(VENV)/.fast ## Run the experiments in results/experiments.toml that are missing or outdated (hours), then write the page
	@$(BIN)/python -m p2prec.lab.report --run $(ARGS)

test-slow: $(VENV)/.dev ## Run the slow tests as well (minutes)
	@$(BIN)/python -m pytest -q $(ARGS)

test-promise: $(VENV)/.dev ## Have 56 daemons keep a promise over TLS on loopback, one of them killed amid a sum (2 minutes, more on a busy machine)
	@$(BIN)/python -m pytest -q tests/e2e/test_promise.py $(ARGS)

test-libp2p: $(VENV)/.libp2p ## Run the tests of the libp2p transport (6 minutes; needs a C compiler and GMP's headers)
	@$(BIN)/python -m pytest -q -k "libp2p or test_mixed" $(ARGS)

bench-transports: $(VENV)/.libp2p ## Measure TLS and libp2p side by side: connect, round trip, throughput, CPU, memory
	@$(BIN)/python tests/benchmarks/transports.py $(ARGS)

test-fast: $(VENV)/.fast ## Install numba, and run the tests of the lab's compiled engine
	@$(BIN)/python -m pytest -q tests/unit/test_lab_compiled.py $(ARGS)

test-torch: $(VENV)/.torch ## Install torch, and run the tests of the lab's torch backend
	@$(BIN)/python -m pytest -q tests/unit/test_torch_array.py tests/unit/test_lab_batched.py $(ARGS)

test-deploy: $(VENV)/.dev ## Check what is in deploy/: dashboard, alerts, units and manifests (root, systemd, prometheus, kubectl: more)
	@$(PIP) install -e '.[deploy]'
	@$(BIN)/python -m pytest -q tests/unit/test_observability_files.py tests/unit/test_systemd_units.py \
		tests/unit/test_kubernetes_manifests.py tests/e2e/test_prometheus.py tests/e2e/test_systemd.py $(ARGS)

chaos: $(VENV)/.dev ## Kill daemons at random moments under load and look for what they lost
	@$(BIN)/python -m pytest -q tests/e2e/test_chaos.py -k "50 or full_disk" $(ARGS)

testbed-test: $(VENV)/.dev ## Run weak devices in containers and hold them to what they must show (PEERS=50; needs Docker; 5 minutes)
	@TESTBED_PEERS=$(or $(PEERS),50) TESTBED_JSON=$(JSON) $(BIN)/python -m pytest -q tests/e2e/test_testbed_containers.py -k weak_devices $(ARGS)

testbed-faults: $(VENV)/.dev ## Disturb weak devices in containers in every way of deploy/faults (PEERS=80; as root, 6 GB; 90 minutes)
	@TESTBED_PEERS=$(or $(PEERS),80) TESTBED_JSON=$(JSON) $(BIN)/python -m pytest -q tests/e2e/test_testbed_containers.py -k comes_back $(ARGS)

clean: ## Remove the environment and everything that was built
	rm -rf $(VENV) $(GOSSIPY_VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find p2prec tests deploy -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps: made anew when pyproject.toml changes, so that the second time costs nothing.
$(VENV)/.demo: pyproject.toml | $(BIN)/python
	@echo "Installing p2prec into $(VENV) ..."
	@$(PIP) install -e '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@echo "Installing p2prec and the tools of its tests into $(VENV) ..."
	@$(PIP) install -e '.[demo,dev]'
	@touch $@ $(VENV)/.demo

$(VENV)/.fast: pyproject.toml | $(BIN)/python
	@echo "Installing p2prec, the tools of its tests and numba into $(VENV) ..."
	@$(PIP) install -e '.[demo,dev,fast]'
	@touch $@ $(VENV)/.demo $(VENV)/.dev

$(VENV)/.torch: $(VENV)/.dev
	@echo "Installing $(TORCH) into $(VENV) ..."
	@$(WARN_OF_TORCH)
	@$(PIP) install $(TORCH_ARGS) '$(TORCH)'
	@touch $@

$(GOSSIPY_VENV)/.ready: | $(BIN)/python
	@echo "Installing gossipy-dfl and $(TORCH) into $(GOSSIPY_VENV) ..."
	@$(WARN_OF_TORCH)
	@$(BIN)/python -m venv $(GOSSIPY_VENV)
	@$(GOSSIPY_VENV)/bin/python -m pip --disable-pip-version-check -q install $(TORCH_ARGS) '$(TORCH)'
	@$(GOSSIPY_VENV)/bin/python -m pip --disable-pip-version-check -q install gossipy-dfl
	@touch $@

$(VENV)/.libp2p: pyproject.toml | $(BIN)/python
	@echo "Installing p2prec with py-libp2p into $(VENV) ..."
	@$(PIP) install -e '.[demo,dev,libp2p]'
	@touch $@ $(VENV)/.demo $(VENV)/.dev

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or later with venv was found. Install one (on Debian and Ubuntu:" \
		"apt install python3-venv), or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
