# What a person or CI asks of this repository, each as one word. `make` alone lists them.

CARGO ?= cargo
PYTHON ?= python3
GO ?= go

TARGET := $(or $(CARGO_TARGET_DIR),target)
VENV := $(TARGET)/conformance-venv
CHART_VENV := $(TARGET)/chart-venv
CLUSTER_CRDS := $(TARGET)/cluster-crds

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-20s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: build
build: ## Build the release binary
	$(CARGO) build --release --locked --bin bucketferry

.PHONY: test
test: ## Run the tests
	$(CARGO) test --locked

.PHONY: test-large
test-large: ## Run the tests that take minutes
	$(CARGO) test --locked --test gateway -- --ignored

# On each store; STORES=s3,local picks.
HISTORIES ?= 2000

.PHONY: test-histories
test-histories: ## Run HISTORIES histories on each store, and look whether an order explains all that clients were told
	HISTORIES=$(HISTORIES) $(CARGO) test --locked --profile histories --test histories -- --nocapture whatever_happens

.PHONY: test-histories-killed
test-histories-killed: ## The same with gateways that are killed
	HISTORIES=$(HISTORIES) $(CARGO) test --locked --test histories -- --nocapture whoever_is_killed

.PHONY: test-histories-failing
test-histories-failing: ## The same on folders where calls to the system fail, and the power (needs cc)
	HISTORIES=$(HISTORIES) $(CARGO) test --locked --features interposable --test histories -- --nocapture whatever_fails

# Which servers, how many histories: CLOUDS="--server azurite --histories 50".
CLOUDS ?=

.PHONY: clouds
clouds: build conformance-tools ## Run the store suite and 500 histories against servers that nobody here wrote (needs what `make cloud-tools` installs, and azurite)
	BUCKETFERRY_BIN=$(TARGET)/release/bucketferry CARGO="$(CARGO)" $(VENV)/bin/python conformance/clouds $(CLOUDS)

VERSITYGW_VERSION := v1.8.0
FAKE_GCS_VERSION := v1.56.1

.PHONY: cloud-tools
cloud-tools: ## Install versitygw and fake-gcs-server (needs Go)
	CGO_ENABLED=0 $(GO) install github.com/versity/versitygw/cmd/versitygw@$(VERSITYGW_VERSION)
	CGO_ENABLED=0 $(GO) install github.com/fsouza/fake-gcs-server@$(FAKE_GCS_VERSION)

.PHONY: cloud-tools-versions
cloud-tools-versions:
	@echo versitygw $(VERSITYGW_VERSION)
	@echo fake-gcs-server $(FAKE_GCS_VERSION)

.PHONY: test-network
test-network: ## Try the gateway behind NAT, firewalls and haproxy, on hosts of their own (needs root)
	$(CARGO) test --locked --test network -- --ignored --test-threads 4

.PHONY: lint
lint: ## Check the formatting, and clippy without a warning
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

.PHONY: deny
deny: ## Check licences, bans and sources of the dependencies (needs cargo-deny)
	$(CARGO) deny --locked check bans licenses sources

.PHONY: advisories
advisories: ## Check the dependencies against the RustSec database (fetches it from GitHub)
	$(CARGO) deny --locked check advisories

.PHONY: conformance
conformance: build conformance-tools ## Try the gateway with six FTP clients, on a folder, two S3 servers and Azure, and by TLS
	BUCKETFERRY_BIN=$(TARGET)/release/bucketferry $(VENV)/bin/python conformance/run

.PHONY: test-pyfilesystem
test-pyfilesystem: build conformance-tools ## Hold the gateway to PyFilesystem's contract, on a folder and S3
	BUCKETFERRY_BIN=$(TARGET)/release/bucketferry $(VENV)/bin/python conformance/pyfilesystem

# Of each client, harm, size and way.
RUNS ?= 50

.PHONY: test-killed
test-killed: build ## Kill eight FTP clients half-way, RUNS times in each of 160 ways, and look at what they leave
	BUCKETFERRY_BIN=$(TARGET)/release/bucketferry $(PYTHON) conformance/killed --runs $(RUNS)

.PHONY: test-storm
test-storm: build ## Let everything hostile happen at once, in a container with the memory that `check` prints (as root)
	BUCKETFERRY_BIN=$(TARGET)/release/bucketferry $(CARGO) test --locked --test gateway storm -- --ignored --nocapture

.PHONY: scan
scan: build ## Let testssl, sslscan, nmap and tcpdump look for weaknesses of its TLS (as root)
	BUCKETFERRY_BIN=$(TARGET)/release/bucketferry $(PYTHON) conformance/scan

.PHONY: conformance-tools
conformance-tools: $(VENV)/ready ## Install the S3 server of the conformance suite (moto_server), and PyFilesystem

$(VENV)/ready: conformance/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

.PHONY: test-chart
test-chart: build $(CHART_VENV)/ready ## Test the Helm chart (needs promtool, and what `make chart-tools` installs)
	BUCKETFERRY_BIN=$(abspath $(TARGET)/release/bucketferry) $(CHART_VENV)/bin/python helm/tests/run

.PHONY: test-cluster
test-cluster: build $(CHART_VENV)/ready $(CLUSTER_CRDS)/ready ## Test the chart on a real control plane (as root; needs conntrack, and what `make chart-tools cluster-tools` installs)
	BUCKETFERRY_BIN=$(abspath $(TARGET)/release/bucketferry) CLUSTER_CRDS=$(abspath $(CLUSTER_CRDS)) $(CHART_VENV)/bin/python helm/tests/cluster/run

.PHONY: test-image
test-image: build ## Build the container image and upload a file to it (as root; needs buildah and debootstrap)
	packaging/test $(TARGET)/release/bucketferry

.PHONY: test-rolling-update
test-rolling-update: build ## Replace a gateway under 50 uploads, in network namespaces (as root; needs ip and nft)
	packaging/rolling-update $(TARGET)/release/bucketferry

.PHONY: chart
chart: $(CHART_VENV)/ready ## Write values.yaml, schema, README and dashboard of the chart anew
	$(CHART_VENV)/bin/python helm/generate

.PHONY: chart-tools
chart-tools: ## Install helm and helm-unittest (needs Go)
	CGO_ENABLED=0 $(GO) install -C helm/tests/tools tool

CLUSTER_MODULES := helm/tests/cluster
# Without it, clients can't parse what the API server says of itself.
KUBERNETES_VERSION = $(shell $(GO) list -C $(CLUSTER_MODULES)/kubernetes -m -f '{{.Version}}' k8s.io/kubernetes)
version_parts = $(subst ., ,$(KUBERNETES_VERSION:v%=%))
version_flag = -X k8s.io/component-base/version.git$(1)=$(2)

.PHONY: cluster-tools
cluster-tools: ## Install etcd, kube-apiserver, kube-controller-manager, kube-proxy and kubectl (needs Go; minutes)
	CGO_ENABLED=0 $(GO) install -C $(CLUSTER_MODULES)/kubernetes -ldflags "-s -w $(call version_flag,Version,$(KUBERNETES_VERSION)) \
		$(call version_flag,Major,$(word 1,$(version_parts))) $(call version_flag,Minor,$(word 2,$(version_parts)))" tool
	CGO_ENABLED=0 $(GO) build -C $(CLUSTER_MODULES)/etcd -o $(or $(GOBIN),$(shell $(GO) env GOPATH)/bin)/etcd go.etcd.io/etcd/server/v3

.PHONY: cluster-tools-versions
cluster-tools-versions:
	@printf '%s $(KUBERNETES_VERSION)\n' kube-apiserver kube-controller-manager kube-proxy kubectl
	@echo etcd $(shell $(GO) list -C $(CLUSTER_MODULES)/etcd -m -f '{{.Version}}' go.etcd.io/etcd/server/v3)

PROMETHEUS_OPERATOR_VERSION := v0.93.1
CERT_MANAGER_VERSION := v1.21.2
# Their modules carry the definitions of their kinds.
copy_crds = cp $$($(GO) mod download -json $(1) | sed -n 's/^\t"Dir": "\(.*\)",$$/\1/p')/$(2) $(CLUSTER_CRDS)

$(CLUSTER_CRDS)/ready: Makefile
	mkdir -p $(CLUSTER_CRDS)
	rm -f $(CLUSTER_CRDS)/*
	$(call copy_crds,github.com/prometheus-operator/prometheus-operator@$(PROMETHEUS_OPERATOR_VERSION),example/prometheus-operator-crd/*.yaml)
	$(call copy_crds,github.com/cert-manager/cert-manager@$(CERT_MANAGER_VERSION),deploy/crds/*.yaml)
	touch $@

$(CHART_VENV)/ready: helm/tests/requirements.txt
	$(PYTHON) -m venv $(CHART_VENV)
	$(CHART_VENV)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@
FUZZ_TARGETS := command proxy path pattern users config
FUZZ_SECONDS ?= 30
# What the fuzzer finds out stays out of the seeds in fuzz/corpus.
fuzz_run = mkdir -p $(TARGET)/fuzz/corpus/$(1) && cd fuzz && CARGO_TARGET_DIR=$(abspath $(TARGET))/fuzz \
	$(CARGO) fuzz run --fuzz-dir . --sanitizer none $(1) $(abspath $(TARGET))/fuzz/corpus/$(1) corpus/$(1) -- \
	-timeout=10 -print_final_stats=1 $(2)

.PHONY: fuzz $(FUZZ_TARGETS:%=fuzz-%)
fuzz: $(FUZZ_TARGETS:%=fuzz-%) ## Fuzz all that reads bytes of peers, FUZZ_SECONDS each (needs cargo-fuzz)

$(FUZZ_TARGETS:%=fuzz-%): fuzz-%:
	$(call fuzz_run,$*,-max_total_time=$(FUZZ_SECONDS))

.PHONY: fuzz-long
fuzz-long: ## The same, ten million executions each, or a million of those that read TOML (hours)
	$(call fuzz_run,command,-runs=10000000)
	$(call fuzz_run,proxy,-runs=10000000)
	$(call fuzz_run,path,-runs=10000000)
	$(call fuzz_run,pattern,-runs=10000000)
	$(call fuzz_run,users,-runs=1000000)
	$(call fuzz_run,config,-runs=1000000)

.PHONY: bench
bench: bench-build $(if $(BENCH),,bench-clouds) ## Measure the gateway against the floor (twenty minutes; see docs/performance.md)
	$(TARGET)/release/bench run $(BENCH)

.PHONY: bench-clouds
bench-clouds: bench-build conformance-tools ## Measure large directories and appends on versitygw and Azurite (needs what `make cloud-tools` installs, and azurite)
	BUCKETFERRY_BIN=$(TARGET)/release/bucketferry $(VENV)/bin/python conformance/clouds --measure $(CLOUDS)

.PHONY: bench-quick
bench-quick: bench-build ## The same with less of everything (two minutes)
	$(TARGET)/release/bench run --quick $(BENCH)

.PHONY: bench-build
bench-build:
	$(CARGO) build --release --locked --workspace

.PHONY: check-all
check-all: lint test clouds test-histories-failing test-network deny fuzz conformance test-pyfilesystem test-killed test-storm scan test-chart test-cluster test-image test-rolling-update ## Everything that CI checks
