# The commands of Stasis. `make demo` and `make test` need git, Rust and Python 3, and set up the rest
# themselves, in one cache folder outside the checkout.

SHELL := /bin/bash
.DEFAULT_GOAL := help

CACHE := $(or $(STASIS_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/stasis)
export CARGO_TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CACHE)/target)
BINARIES := $(CARGO_TARGET_DIR)/debug
REQUIREMENTS := tests/local/requirements.txt tests/infra/requirements.txt benches/requirements.txt
VENV := $(CACHE)/venv-$(shell cat $(REQUIREMENTS) | sha256sum | cut -c1-12)
PYTHON := $(VENV)/bin/python
LOCAL := PYTHONPATH=tests PYTHONDONTWRITEBYTECODE=1 $(PYTHON) -m local

PEERS_REQUIREMENTS := benches/peers/requirements.txt
PEERS_VENV := $(CACHE)/venv-peers-$(shell cat $(PEERS_REQUIREMENTS) | sha256sum | cut -c1-12)
BENCH := PYTHONDONTWRITEBYTECODE=1 $(PYTHON) benches/run.py --binaries $(BINARIES) --proxy-python $(PYTHON)

COLLECTOR_REQUIREMENTS := collector/requirements.txt
COLLECTOR_VENV := $(CACHE)/venv-collector-$(shell cat $(COLLECTOR_REQUIREMENTS) | sha256sum | cut -c1-12)
COLLECTORS := $(CACHE)/collector
SAM_REQUIREMENTS := tests/infra/validators/sam.txt
SAM_VENV := $(CACHE)/venv-sam-$(shell cat $(SAM_REQUIREMENTS) | sha256sum | cut -c1-12)
CHECKOV_REQUIREMENTS := tests/infra/validators/checkov.txt
CHECKOV_VENV := $(CACHE)/venv-checkov-$(shell cat $(CHECKOV_REQUIREMENTS) | sha256sum | cut -c1-12)

VOLATILITY_REQUIREMENTS := tests/vm/requirements.txt
VOLATILITY_VENV := $(CACHE)/venv-volatility-$(shell cat $(VOLATILITY_REQUIREMENTS) | sha256sum | cut -c1-12)

DEPLOY_REQUIREMENTS := infra/requirements.txt
DEPLOY_VENV := $(CACHE)/venv-deploy-$(shell cat $(DEPLOY_REQUIREMENTS) | sha256sum | cut -c1-12)
INSTALLER := PYTHONPATH=infra PYTHONDONTWRITEBYTECODE=1 $(DEPLOY_VENV)/bin/python -m installer
# What stands on make's own command line, by name.
NAMED = $(foreach word,$(MAKEOVERRIDES),$(if $(findstring =,$(word)),$(firstword $(subst =, ,$(word)))))
FUNCTIONS = $(addprefix -p ,$(notdir $(patsubst %/,%,$(dir $(wildcard functions/*/Cargo.toml)))))
# The functions' machine, and the C library of provided.al2023.
LAMBDA_TARGET := aarch64-unknown-linux-gnu
LAMBDA_GLIBC := 2.34

# Coverage-guided, by libFuzzer: the instrumentation that it reads is put in by these.
FUZZ_FLAGS := --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1
FUZZED := $(CACHE)/fuzz/x86_64-unknown-linux-gnu/release
SECONDS ?= 60

.PHONY: fuzz permissions package functions deploy uninstall
# The language of the demo's report: en or ja.
REPORT_LANGUAGE ?= en

.PHONY: bench-memory report-picture
.PHONY: help demo test check install bench bench-ours local local-stop plant build collector vm-proof

help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

demo: $(VENV)/ready build ## the main job on one instance, on a local AWS: no account, no Docker
	@$(LOCAL) demo --binaries $(BINARIES) --event events/guardduty/coin-miner.json --report-language $(REPORT_LANGUAGE)

report-picture: demo ## the demo's report in a browser, as docs/report.png shows it
	@PYTHONDONTWRITEBYTECODE=1 $(PYTHON) tests/browser/picture.py .local/report.html docs/report.png

test: $(VENV)/ready $(SAM_VENV)/ready $(CHECKOV_VENV)/ready build ## every test
	@SAM=$(SAM_VENV)/bin/sam CHECKOV=$(CHECKOV_VENV)/bin/checkov PYTHON=$(PYTHON) STASIS_BINARIES=$(BINARIES) $(PYTHON) tests/run.py

check: $(VENV)/ready ## formatting, lints with warnings denied, infrastructure
	cargo fmt --all --check
	cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
	cargo fmt --manifest-path tests/judge/Cargo.toml --check
	cargo clippy --quiet --locked --manifest-path tests/judge/Cargo.toml -- -D warnings
	@if command -v c++ > /dev/null; then cargo check --quiet --locked --manifest-path fuzz/Cargo.toml; \
	else echo "the fuzz targets need a C++ compiler, and were not looked at"; fi
	$(PYTHON) tests/infra/check.py

permissions: $(VENV)/ready ## what each function is granted and called in the last `make test`, as a table
	@STASIS_BINARIES=$(BINARIES) PYTHONPATH=tests PYTHONDONTWRITEBYTECODE=1 $(PYTHON) tests/privilege/check.py --table --must-be-whole --calls $(CARGO_TARGET_DIR)/calls

bench: $(VENV)/ready $(PEERS_VENV)/ready build ## time to contain, beside what others need for the same
	@$(BENCH) --peers-python $(PEERS_VENV)/bin/python

bench-ours: $(VENV)/ready build ## time to contain, Stasis alone
	@$(BENCH) --ours-only

bench-memory: $(VENV)/ready ## what a function's memory does to how long it takes (root, control groups; builds for release, 16 min)
	@cargo build --quiet --locked --release -p stasis-collector $(FUNCTIONS)
	@PYTHONDONTWRITEBYTECODE=1 $(PYTHON) benches/memory.py --binaries $(CARGO_TARGET_DIR)/release --proxy-python $(PYTHON)

install: ## the analyst's command line, stasis, into cargo's own bin folder (docs/command-line.md)
	@cargo install --quiet --locked --path cli

local: $(VENV)/ready build ## start the local AWS with the stack deployed, in the background; writes .local/env
	@$(LOCAL) start --binaries $(BINARIES) --wait-scale 0.2

plant: $(VENV)/ready ## plant an instance to contain in the running local AWS
	@$(LOCAL) plant --instance-id i-0a1b2c3d4e5f67890

local-stop: $(VENV)/ready ## end what `make local` started
	@$(LOCAL) stop

collector: $(COLLECTOR_VENV)/ready ## the static collector for both architectures, with their SHA-256
	@rustup target add --toolchain 1.95.0 x86_64-unknown-linux-musl aarch64-unknown-linux-musl 2>&1 | grep -i error || true
	@mkdir -p $(COLLECTORS)
	@for machine in x86_64 aarch64; do \
	    PATH=$(COLLECTOR_VENV)/bin:$$PATH cargo zigbuild --quiet --locked --profile collector -p stasis-collector --target $$machine-unknown-linux-musl || exit 1; \
	    install -m 755 $(CARGO_TARGET_DIR)/$$machine-unknown-linux-musl/collector/stasis-collector $(COLLECTORS)/stasis-collector-$$machine; \
	done
	@cd $(COLLECTORS) && sha256sum stasis-collector-x86_64 stasis-collector-aarch64 | tee SHA256SUMS

functions: $(COLLECTOR_VENV)/ready
	@rustup target add --toolchain 1.95.0 $(LAMBDA_TARGET) 2>&1 | grep -i error || true
	@PATH=$(COLLECTOR_VENV)/bin:$$PATH cargo zigbuild --quiet --locked --release --target $(LAMBDA_TARGET).$(LAMBDA_GLIBC) \
	    $(FUNCTIONS)

package: $(DEPLOY_VENV)/ready functions collector ## what a deployment needs, in dist/: functions for arm64, templates, collectors (docs/deploy.md)
	@$(INSTALLER) package --binaries $(CARGO_TARGET_DIR)/$(LAMBDA_TARGET)/release --collectors $(COLLECTORS) --lambda-folder target/lambda

deploy: $(DEPLOY_VENV)/ready $(if $(DIST),,package) ## packages, and deploys to the account and Region of your credentials (NAME=VALUE; YES=1 asks nothing; DIST= a ready package)
	@$(INSTALLER) deploy --folder $(or $(DIST),dist) $(if $(YES),--yes) --named '$(filter-out DIST YES CARGO_TARGET_DIR STASIS_CACHE,$(NAMED))'

uninstall: $(DEPLOY_VENV)/ready ## removes the stacks, and says what stays (ACCOUNT=… in place of the question, OPEN_CASES=stay)
	@$(INSTALLER) uninstall $(if $(ACCOUNT),--account $(ACCOUNT)) $(if $(OPEN_CASES),--open-cases $(OPEN_CASES))

vm-proof: $(VOLATILITY_VENV)/ready collector ## the collector against a real kernel in a virtual machine (ONLY=main for the first case alone)
	@cargo build --quiet --locked -p stasis-symbols
	@PYTHONDONTWRITEBYTECODE=1 python3 tests/vm/proof.py --install --cache $(CACHE) \
	    --collector $(COLLECTORS)/stasis-collector-x86_64 --collector-aarch64 $(COLLECTORS)/stasis-collector-aarch64 \
	    $(if $(ONLY),--only $(ONLY)) --symbols $(BINARIES)/stasis-symbols --volatility $(VOLATILITY_VENV)/bin/vol

fuzz: ## whatever bytes come in, nothing panics: SECONDS=60 for each target (needs a C++ compiler, x86_64 Linux)
	@cd fuzz && CARGO_TARGET_DIR=$(CACHE)/fuzz RUSTFLAGS="$(FUZZ_FLAGS)" cargo build --quiet --locked --release --target x86_64-unknown-linux-gnu
	@for target in trigger policy kcore host; do \
	    mkdir -p $(CACHE)/fuzz/corpus/$$target; echo "$$target: $(SECONDS) s"; \
	    $(FUZZED)/$$target -max_total_time=$(SECONDS) -max_len=16384 -artifact_prefix=$(CACHE)/fuzz/$$target- -print_final_stats=1 \
	        $(CACHE)/fuzz/corpus/$$target $(sort $(dir $(wildcard events/*/*.json infra/policy/*.json))) > $(CACHE)/fuzz/$$target.log 2>&1 \
	        || { tail -30 $(CACHE)/fuzz/$$target.log; exit 1; }; \
	    grep -E "number_of_executed_units" $(CACHE)/fuzz/$$target.log; \
	done

# The first build compiles the AWS SDK, which takes minutes; later ones take seconds and say nothing.
build:
	@test -d $(BINARIES)/deps || echo "first build: the AWS SDK takes some minutes to compile (docs/build.md)"
	@cargo build --quiet --locked --workspace
	@cargo build --quiet --locked --manifest-path tests/judge/Cargo.toml

$(VENV)/ready: $(REQUIREMENTS)
	@echo "making the Python environment of the local AWS in $(CACHE)"
	@python3 -m venv --clear $(VENV) || { echo "python3 has no venv module here: install it (Debian: python3-venv) and run this again" >&2; exit 1; }
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check $(addprefix -r ,$(REQUIREMENTS))
	@touch $@

# Other people's tools keep to themselves: they pin what the local AWS pins otherwise.
define environment
$($(1)_VENV)/ready: $($(1)_REQUIREMENTS)
	@echo "making the Python environment $(2) in $(CACHE)"
	@python3 -m venv --clear $($(1)_VENV)
	@$($(1)_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r $($(1)_REQUIREMENTS)
	@touch $$@

endef
# zig compiles the C of the collector's TLS for both architectures, so that no cross compiler is needed.
$(eval $(call environment,COLLECTOR,in which the collector is built))
$(eval $(call environment,DEPLOY,in which Stasis is packaged and deployed))
$(eval $(call environment,PEERS,of the tools that the bench compares with))
$(eval $(call environment,SAM,of AWS' own validator))
$(eval $(call environment,CHECKOV,of the security scanner))
$(eval $(call environment,VOLATILITY,in which the image is read))
