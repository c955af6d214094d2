# Everything a user or developer runs. `make demo` and `make test` need nothing but a fresh Debian.
VENV ?= .venv
PYTHON ?= python3
STAMP := $(VENV)/.installed
RUN := $(VENV)/bin/python

# A test run starts hundreds of processes: none of them compiles what another one has compiled.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(abspath $(VENV))/pycache

.PHONY: demo dpdk chromium traceroute test test-rest test-networks exhaustive lint style check quick bench p4 chip-reports p4-conformance fuzz setup lock clean

setup: $(STAMP)

$(STAMP): pyproject.toml servernf/pyproject.toml requirements.lock setup.sh
	./setup.sh $(VENV) $(PYTHON)
	touch $@

# New versions of what we use: make lock UPGRADE=--upgrade (or UPGRADE="--upgrade-package scapy"); needs uv
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --only-binary :all: \
	--no-emit-index-url --no-annotate --no-header $(UPGRADE)
lock:
	$(LOCK) --all-extras --no-emit-package servernf -o requirements.lock pyproject.toml
	echo p4runtime-shell==0.0.6 | $(LOCK) -o orchestrator/observation/p4runtime_shell.lock -

demo: $(STAMP) $(if $(filter dpdk,$(RUNTIME)),dpdk)
	$(RUN) mininet/demo.py $(if $(RUNTIME),--runtime $(RUNTIME))

# Switches, namespaces and controllers run one after the other and mostly wait; beside them, all that needs no network.
test: $(STAMP) dpdk chromium traceroute
	$(MAKE) -j2 --output-sync=line test-networks test-rest

# What the fast engine's ports and NFs in C need; where it cannot be installed their tests are skipped, and say so. Vectorscan
# is Hyperscan for other processors than x86.
dpdk:
	@pkg-config --exists libdpdk libhs 2>/dev/null || [ "$$(id -u)" != 0 ] || { apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libdpdk-dev pkg-config && \
	    { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libhyperscan-dev || \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libvectorscan-dev; }; } \
	    >/dev/null || echo "DPDK cannot be installed"

# With what the page (`orchestrator ui`) is tested; the same holds.
chromium:
	@command -v chromium >/dev/null || [ "$$(id -u)" != 0 ] || { apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } \
	    >/dev/null || echo "Chromium cannot be installed"

# With what hosts look for routers; the same holds.
traceroute:
	@command -v traceroute >/dev/null || [ "$$(id -u)" != 0 ] || { apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends traceroute; } \
	    >/dev/null || echo "traceroute cannot be installed"

test-rest: $(STAMP)
	$(RUN) -m pytest -n auto tests/unit tests/golden tests/verification tests/p4

test-networks: $(STAMP)
	$(RUN) -m pytest tests/emulated tests/recovery tests/test_wheel.py tests/test_servernf_wheel.py

# A controller killed at every step, a hundred moves, a hundred runs with faulty calls, every leaf of P4 programs, every cheat of a provider.
exhaustive: $(STAMP)
	$(RUN) -m pytest -m exhaustive tests/recovery tests/unit/deployment tests/unit/placement_model tests/unit/servernf tests/unit/softswitch tests/p4/fast tests/p4/test_stages_of_builds.py tests/verification tests/emulated

lint: $(STAMP) style
	$(VENV)/bin/pyright --pythonpath $(RUN)

# Ruff, types in a second (pyrefly; `make lint` and CI ask pyright as well), import directions.
style: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyrefly check --python-interpreter-path $(RUN) --summary=none
	$(VENV)/bin/lint-imports

# Under a minute on two cores: what a change breaks most often, beside the linters.
check: $(STAMP)
	$(MAKE) -j2 --output-sync=target style quick

quick: $(STAMP)
	$(RUN) -m pytest -q -n auto -m "not slow and not exhaustive" tests/unit tests/golden

bench: $(STAMP)
	$(RUN) tests/bench/run.py $(ONLY)

p4: $(STAMP)
	$(RUN) p4src/build.py

# What p4c's Tofino backend (p4c-barefoot and bfas on PATH) says of blocks by themselves; minutes.
# make chip-reports P4C=<checkout> [ARGS="acl_512 ..."]
chip-reports: $(STAMP)
	P4C=$(P4C) $(RUN) -m orchestrator.fitting $(ARGS)

# Packet tests of p4c's own samples: make p4-conformance P4C=<checkout> [ARGS=--json]
p4-conformance: $(STAMP)
	$(RUN) tests/p4/conformance/run.py $(P4C) $(ARGS)

# 100,000 random packets, softswitch against BMv2 (root, simple_switch_grpc; p4c for programs)
fuzz: $(STAMP)
	$(RUN) tests/p4/fuzz/fuzz.py $(ARGS)

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
