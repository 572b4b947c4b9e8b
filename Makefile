# Steelyard's commands. Each is a few lines that call our own binaries; `make help` lists them.

HOSTS ?= 16
SEED ?= 1
REGISTER ?= true
PROFILE ?= quick
LAB ?=
CLUSTER ?=
CONTROLLER ?=

CARGO ?= cargo
# CI builds once for everything: TARGETS=--all-targets.
TARGETS ?= --bins
LAB_DIR ?= .lab
BIN := $(or $(CARGO_TARGET_DIR),target)/debug
LAB_FLAGS := --dir $(LAB_DIR) --hosts $(HOSTS) --seed $(SEED) --register $(REGISTER) \
	$(if $(LAB),--file $(LAB)) $(if $(CLUSTER),--cluster $(CLUSTER)) $(if $(CONTROLLER),--controller $(CONTROLLER))
TEST := $(shell command -v cargo-nextest >/dev/null 2>&1 && echo nextest run --no-fail-fast || echo test)

.DEFAULT_GOAL := help
.PHONY: help build toolchain lab-bin lab-up lab-status lab-logs lab-down demo test test-captures conformance bench lint fmt

help: ## Show this list
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk 'BEGIN {FS = ":.*?## "} {printf "  make %-15s %s\n", $$1, $$2}'

build: ## Build everything
	@$(CARGO) build --workspace --all-targets

lab-bin: toolchain
	@$(CARGO) build --workspace $(TARGETS)

toolchain:
	@command -v $(CARGO) >/dev/null || { echo "cargo is not installed: see https://rustup.rs (or apt-get install rustup)"; exit 1; }
	@command -v cc >/dev/null || { echo "a C compiler is not installed: apt-get install gcc"; exit 1; }

lab-up: lab-bin ## Start a simulated data centre (HOSTS=16 REGISTER=true SEED=1 LAB=file.yaml)
	@$(BIN)/steelyard-lab up $(LAB_FLAGS)

lab-status: lab-bin ## Show what the lab is doing
	@$(BIN)/steelyard-lab status --dir $(LAB_DIR)

lab-logs: ## Follow the lab's log
	@tail -n 100 -F $(LAB_DIR)/log/lab.log

lab-down: lab-bin ## Stop the lab; logs and captures stay
	@$(BIN)/steelyard-lab down --dir $(LAB_DIR)

demo: lab-bin ## The whole story: servers, a tenant, a node, and back
	@$(BIN)/steelyard-lab demo --dir $(LAB_DIR)

test: toolchain ## Every test that needs nothing but the toolchain
	@$(CARGO) $(TEST) --workspace --all-targets

test-captures: lab-bin ## Count what crosses each network (installs tshark)
	@command -v tshark >/dev/null || { echo "installing tshark"; apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -qy tshark >/dev/null; }
	@$(BIN)/steelyard-lab captures

conformance: lab-bin ## The conformance suite on a lab of its own (PROFILE=quick)
	@$(BIN)/steelyard-conformance run --profile $(PROFILE) --report target/conformance $(if $(CLUSTER),--kubeconfig $(CLUSTER))

bench: lab-bin ## Measure start, registration, claim to node, memory
	@$(BIN)/steelyard-lab bench

lint: toolchain ## Formatting and clippy, warnings denied
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings

fmt: ## Format
	@$(CARGO) fmt --all
