# `make help` lists the targets. Everything that is built lands in build/, everything slow is cached by content hash
# outside the checkout (BULKHEAD_BUILD_CACHE, default ~/.cache/bulkhead).
SHELL := /bin/bash
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

NODE := node_modules/.bin/node

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

.PHONY: setup
setup: ## install system packages that are missing, and the npm packages
	@tools/setup.sh
	@$(MAKE) node_modules/.installed

.PHONY: test-setup
test-setup: ## install what the tests and benches need beside that
	@tools/setup.sh tests

node_modules/.installed: package.json package-lock.json
	npm ci --no-audit --no-fund --loglevel=error
	@touch $@

.PHONY: build
build: setup generate ## build all that bin/bulkhead needs
	@guest/kernel/build.sh build/guest
	@$(MAKE) -C guest
	@$(MAKE) -C libvmm
	@libvmm/krun/build.sh build/libvmm

.PHONY: generate
generate: node_modules/.installed ## write the files that are generated from a single source
	@tools/generate.sh

.PHONY: lint
lint: node_modules/.installed ## formatters, linters, import rules, stale generated files
	@tools/lint.sh

.PHONY: unit
unit: test-setup build ## unit tests (no root, no VM)
	@tools/test.sh unit

.PHONY: e2e
e2e: test-setup build ## end-to-end tests: real VMs, a real registry
	@tools/test.sh e2e

.PHONY: test
test: test-setup build lint ## everything
	@tools/test.sh all

.PHONY: check-arm64
check-arm64: ## check that libkrun and the C code compile for arm64 (needs cross packages)
	@libvmm/krun/check-arm64.sh

.PHONY: soak
soak: test-setup build ## the long campaigns
	@tools/test.sh soak

.PHONY: bench
bench: test-setup build ## side-by-side measurements
	@tools/bench.sh

.PHONY: test-kvm
test-kvm: test-setup build ## end-to-end tests with libkrun, in an emulated KVM host
	@tools/test-kvm.sh

.PHONY: test-cluster
test-cluster: test-setup build ## tests in a real Kubernetes cluster that runs on this machine alone
	@tools/test-cluster.sh

.PHONY: bench-kvm
bench-kvm: test-setup build ## side-by-side measurements with libkrun and a peer, in an emulated KVM host
	@tools/bench-kvm.sh

.PHONY: demo
demo: build ## a guided tour on this machine
	@tools/demo.sh

.PHONY: clean
clean: ## remove what was built here (not the cache outside the checkout)
	rm -rf build
