# Everything that a fresh Debian machine with a Rust toolchain needs to build, test and measure Barque.
# Targets install what is missing with apt, and say so.

CARGO ?= cargo

# cc is what Rust links with; protoc and its standard protos build the crate etcd-client, which only tests use; etcd
# and etcdctl are the references that the tests compare with; with the next ones, root tries bad networks; then a
# client of the API; images are pulled from a real registry, and a static program runs in containers of tests.
PACKAGES := build-essential etcd-server etcd-client protobuf-compiler libprotobuf-dev \
	iproute2 nftables util-linux python3-kubernetes containernetworking-plugins docker-registry busybox-static containerd runc \
	dbus-daemon
# A browser without windows, for the status page; where apt has none, its test is skipped and says so.
BROWSER := chromium-headless-shell

.PHONY: fuzz kubectl prometheus browser up test bench chaos fmt verify packages lint programs

# Three masters and three nodes on this machine, and the night when masters die: clients write, read and ask a service while each
# master is killed, paused, cut off and replaced, and a node is lost; what they saw is printed, and another cluster begins with a
# snapshot of the evening. That one stays in a terminal, or with HOLD=1, and is taken away otherwise. Root gets containers and networks; others get hollow nodes on loopback addresses.
up: PACKAGES := build-essential busybox-static
up: packages kubectl
	$(CARGO) build --locked --package barque --package kvctl --bin barque --bin kvctl --example night
	target/debug/examples/night

# Tests wait a third of their time, so that one more goes on than there are processors.
test: export RUST_TEST_THREADS ?= $(shell expr 1 + $$(nproc))
test: packages browser kubectl prometheus lint programs
	$(CARGO) test --locked --workspace

# The same client against etcd and against Barque, three members each, in turns; then the API, the scheduler's decisions,
# pods from their creation to their binding, a whole cluster from Deployments to pods that run, and, as root, a node: its
# containers, its rules of services, its pods.
bench: packages kubectl
	$(CARGO) build --locked --release --package barque --package kvctl
	$(CARGO) run --locked --release --package jepsen-like-tests --bin versus
	$(CARGO) bench --locked --package barque --bench api
	$(CARGO) bench --locked --package barque-scheduler
	$(CARGO) bench --locked --package barque --bench scheduling
	$(CARGO) bench --locked --package barque --bench convergence
	$(CARGO) bench --locked --package barque-containers --bench create
	$(CARGO) bench --locked --package barque-proxy --bench sync
	$(CARGO) bench --locked --package barque --bench node

# Every workload under every fault for half an hour, then simulated clusters. Partitions, bad networks and sick disks
# need root.
CHAOS_MINUTES ?= 30
CHAOS_SEEDS ?= 1000..1200
chaos: packages programs
	$(CARGO) run --locked --package jepsen-like-tests -- chaos --minutes $(CHAOS_MINUTES)
	$(CARGO) run --locked --profile simulation --package jepsen-like-tests -- simulate --seeds $(CHAOS_SEEDS) --jobs 2

# Programs of Debian, unpacked beside what is built: a machine may have another kubectl installed, and should not start a Prometheus.
kubectl: target/debian-kubectl/usr/bin/kubectl
prometheus: target/debian-prometheus/usr/bin/prometheus

unpack = mkdir -p $(1) && cd $(1) && { apt-get download -qq $(2) || \
	{ $(if $(filter 0,$(shell id -u)),,sudo) apt-get update -qq && apt-get download -qq $(2); }; } && \
	dpkg --extract $(2)_*.deb . && rm $(2)_*.deb

target/debian-kubectl/usr/bin/kubectl:
	$(call unpack,target/debian-kubectl,kubernetes-client)

target/debian-prometheus/usr/bin/prometheus:
	$(call unpack,target/debian-prometheus,prometheus)

# Any other Chromium is as good.
browser: packages
	@for program in chromium-headless-shell chromium google-chrome; do \
		if command -v $$program > /dev/null; then exit 0; fi; \
	done; \
	root=""; if [ "$$(id -u)" != 0 ]; then root="sudo"; fi; \
	$$root apt-get update -qq || exit 1; \
	if ! apt-cache show $(BROWSER) > /dev/null 2>&1; then \
		echo "not tried: the status page in a browser, as apt has no $(BROWSER)"; exit 0; \
	fi; \
	echo "installing: $(BROWSER)"; \
	$$root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(BROWSER)

# What clients send, made up by libFuzzer with coverage (stable Rust has it, but for the sanitizers); a minute each.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS := documents expressions patches protobuf selectors
FUZZ_FLAGS := --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cdebug-assertions -Ccodegen-units=1
fuzz: packages
	cd api/fuzz && RUSTFLAGS="$(FUZZ_FLAGS)" $(CARGO) build --release --locked --target $(shell rustc -vV | sed -n 's/host: //p')
	for target in $(FUZZ_TARGETS); do \
		mkdir -p api/fuzz/corpus/$$target && \
		api/fuzz/target/$(shell rustc -vV | sed -n 's/host: //p')/release/$$target -max_total_time=$(FUZZ_SECONDS) \
			-rss_limit_mb=2048 -timeout=20 -print_final_stats=1 api/fuzz/corpus/$$target || exit 1; \
	done

fmt:
	$(CARGO) fmt --all

# What takes longer than a test should: licences and duplicates, documentation, a long comparison with etcd.
verify: test
	command -v cargo-deny > /dev/null || $(CARGO) install --locked cargo-deny
	$(CARGO) deny --all-features check licenses bans sources
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items
	DIFFERENTIAL_REQUESTS=50000 $(CARGO) test --locked --package jepsen-like-tests --test differential -- --nocapture

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

# The tests start the programs; cargo does not build those of other packages for them. With the whole workspace, as in `lint`
# and `test`, the dependencies have the same features and are built once. Benches are for `bench`; `lint` has looked at them.
programs:
	$(CARGO) build --locked --workspace --bins --tests --examples

# Installing etcd-server or docker-registry must not start one of its own: policy-rc.d forbids it meanwhile, where there is none yet.
packages:
	@missing=""; \
	for package in $(PACKAGES); do \
		dpkg-query --show --showformat='$${db:Status-Status}' $$package 2> /dev/null | grep -qx installed \
			|| missing="$$missing $$package"; \
	done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	echo "installing:$$missing"; \
	root=""; if [ "$$(id -u)" != 0 ]; then root="sudo"; fi; \
	policy=/usr/sbin/policy-rc.d; \
	if [ ! -e $$policy ]; then \
		printf '#!/bin/sh\nexit 101\n' | $$root tee $$policy > /dev/null && $$root chmod +x $$policy; \
		trap "$$root rm -f $$policy" EXIT; \
	fi; \
	$$root apt-get update -qq && $$root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y \
		--no-install-recommends $$missing
