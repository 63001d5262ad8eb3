# The commands of the README. `make help` lists them.

CARGO ?= cargo

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help brokers possible-brokers test test-often upstream conformance live-check chaos soak demo bench bounds memcheck miri races \
	valgrind nightly lint docs docs-rs msrv minimal features semver deny clean-brokers

# For Miri and ThreadSanitizer; here and in the workflow, which calls the same commands.
NIGHTLY := nightly-2026-07-01
with_nightly := rustup run $(NIGHTLY)

published := -p otel-messaging -p otel-rdkafka -p otel-lapin -p otel-async-nats

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1	\2/p' $(MAKEFILE_LIST) | expand -t 16

brokers: ## install Kafka, RabbitMQ, nats-server and redis-server, as far as this machine allows it; exits 1 when one is missing
	@sh tests/libraries/brokers/install.sh

# The same for those who go on with what there is.
possible-brokers:
	@sh tests/libraries/brokers/install.sh || true

test: possible-brokers lint docs ## everything that has to pass; exits 1 also when a broker is missing
	@CARGO="$(CARGO)" sh tests/libraries/brokers/test.sh

test-often: possible-brokers ## the tests N times (20), from the middle on beside BUSY processes (0); goes on where it stopped
	@CARGO="$(CARGO)" N="$(N)" BUSY="$(BUSY)" sh tests/libraries/brokers/test_often.sh

upstream: possible-brokers ## the clients' own tests and examples, unchanged, on the clients and on our crates; ARGS="--client lapin"
	@$(CARGO) run -q -p upstream -- $(ARGS)

conformance: possible-brokers ## every operation on every broker, what it exports held against the semantic conventions
	@$(CARGO) run -q -p conformance -- check

live-check: possible-brokers ## the registry, and all that conformance exports, judged by weaver 0.25.1; WEAVER=program, SEMCONV_MODEL=folder
	@$(CARGO) run -q -p conformance -- live-check

chaos: possible-brokers ## brokers broken under load, on the raw clients and on ours: nothing acknowledged is lost; ARGS=--short SEED=N
	@$(CARGO) run -q -p chaos -- $(ARGS) $(if $(SEED),--seed "$(SEED)")

soak: possible-brokers ## MINUTES (5) of steady load on each side: ours does not grow more, and no span stays open
	@$(CARGO) run -q -p chaos -- soak --minutes "$(or $(MINUTES),5)"

demo: possible-brokers ## orders through three brokers, each as one trace
	@$(CARGO) run -q -p demo

bench: ## what instrumentation costs, beside the raw clients and hand-written instrumentation
	$(CARGO) bench -p bench --bench paths --bench prices --bench table
	$(CARGO) bench -p bench --bench prices --features bound-instruments -- meter_provider

bounds: valgrind ## whether it costs more than it may, in instructions and allocations; needs valgrind, which it installs as root
	$(CARGO) bench -q -p bench --bench bounds

memcheck: possible-brokers valgrind ## otel-rdkafka's unit tests and one whole send and receive under valgrind, which it installs as root
	VALGRIND_OPTS="--suppressions=$(CURDIR)/tests/suites/kafka/memcheck/suppressions" \
		$(CARGO) test --config tests/suites/kafka/memcheck/cargo.toml -p otel-rdkafka -p kafka-tests --lib --test memory

# Miri runs no C. A filter that finds no test would pass.
without_c := miri test -p otel-rdkafka --lib tests_without_c
miri: export MIRIFLAGS := -Zmiri-disable-isolation -Zmiri-strict-provenance
miri: possible-brokers nightly ## what of otel-rdkafka's pointers needs no C, under Miri; needs rustup, and installs a nightly toolchain
	$(with_nightly) cargo $(without_c) -- --list | grep ': test$$'
	$(with_nightly) cargo $(without_c)

races: nightly ## the core's tests under ThreadSanitizer, some minutes; needs rustup, and installs a nightly toolchain
	RUSTFLAGS=-Zsanitizer=thread $(with_nightly) cargo test -Zbuild-std \
		--target "$$($(with_nightly) rustc --print host-tuple)" -p otel-messaging --test threads --test core

valgrind:
	@command -v valgrind >/dev/null || apt-get install -y -q valgrind || { apt-get update -q && apt-get install -y -q valgrind; }

# Installing what is there already costs a second, and asks the network.
nightly:
	@$(with_nightly) cargo miri --version >/dev/null 2>&1 && [ -d "$$($(with_nightly) rustc --print sysroot)/lib/rustlib/src" ] || \
		rustup toolchain install $(NIGHTLY) --profile minimal --component miri,rust-src

lint: ## rustfmt and clippy
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

docs: ## the documentation, with every link checked
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

docs-rs: nightly ## the documentation of the published crates, as docs.rs builds it; needs rustup
	RUSTDOCFLAGS="-D warnings --cfg docsrs" $(with_nightly) cargo doc $(published) --no-deps

msrv: ## the published crates, with the oldest Rust that Cargo.toml promises; needs rustup, and installs that toolchain
	rustup run --install "$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)" cargo check $(published)

# The versions of the tests' own dependencies are no promise.
minimal: nightly ## the published crates, with the oldest versions of the dependencies that they promise; needs rustup
	rm -rf target/minimal-versions && mkdir -p target/minimal-versions
	cp -r Cargo.toml crates target/minimal-versions
	sed -i 's/^members = .*/members = ["crates\/*"]/' target/minimal-versions/Cargo.toml
	sed -i '/^\[dev-dependencies\]/,/^$$/d' target/minimal-versions/crates/*/Cargo.toml
	cd target/minimal-versions && $(with_nightly) cargo $(or $(ARGS),check) $(published) -Z direct-minimal-versions

# Left out: features that need libraries of the system.
features: ## each feature of the published crates alone; needs cargo-hack
	$(CARGO) hack check --each-feature --exclude-all-features $(published) --exclude-features \
		curl,curl-static,dynamic-linking,dynamic_linking,external-lz4,external_lz4,gssapi,gssapi-vendored,sasl,ssl,zstd-pkg-config,fips

semver: ## the public API of the published crates against the last release, where a tag v… is one; needs cargo-semver-checks
	@if release=$$(git describe --tags --abbrev=0 --match 'v[0-9]*' 2>/dev/null); then \
		$(CARGO) semver-checks $(published) --baseline-rev "$$release"; \
	else echo "no release yet: no tag of this checkout begins with v"; fi

deny: ## licences, sources and bans of all dependencies; ARGS=advisories needs the network; needs cargo-deny
	cargo-deny --locked check $(or $(ARGS),licenses bans sources)

clean-brokers: ## remove what `make brokers` put into target/brokers
	rm -rf "$${BROKERS_HOME:-target/brokers}"
