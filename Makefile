# The commands of the README. `make help` lists them.

CARGO ?= cargo

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help brokers possible-brokers test test-often upstream conformance live-check chaos soak demo bench bounds memcheck miri races \
	valgrind nightly lint docs clean-brokers

# For Miri and ThreadSanitizer; here and in the workflow, which calls the same commands.
NIGHTLY := nightly-2026-07-01
with_nightly := rustup run $(NIGHTLY)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1	\2/p' $(MAKEFILE_LIST) | expand -t 16

brokers: ## install Kafka, RabbitMQ and nats-server, as far as this machine allows it; exits 1 when one is missing
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

clean-brokers: ## remove what `make brokers` put into target/brokers
	rm -rf "$${BROKERS_HOME:-target/brokers}"
