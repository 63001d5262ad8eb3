# The commands of the README. `make help` lists them.

CARGO ?= cargo

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help brokers possible-brokers test test-often upstream conformance live-check demo bench bounds lint docs clean-brokers

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1	\2/p' $(MAKEFILE_LIST) | expand -t 16

brokers: ## install Kafka, RabbitMQ and nats-server, as far as this machine allows it; exits 1 when one is missing
	@sh tests/brokers/install.sh

# The same for those who go on with what there is.
possible-brokers:
	@sh tests/brokers/install.sh || true

test: possible-brokers lint docs ## everything that has to pass; exits 1 also when a broker is missing
	@CARGO="$(CARGO)" sh tests/brokers/test.sh

test-often: possible-brokers ## the tests N times (20), from the middle on beside BUSY processes (0); goes on where it stopped
	@CARGO="$(CARGO)" N="$(N)" BUSY="$(BUSY)" sh tests/brokers/test_often.sh

upstream: possible-brokers ## the clients' own tests and examples, unchanged, on the clients and on our crates; ARGS="--client lapin"
	@$(CARGO) run -q -p upstream -- $(ARGS)

conformance: possible-brokers ## every operation on every broker, what it exports held against the semantic conventions
	@$(CARGO) run -q -p conformance -- check

live-check: possible-brokers ## the registry, and all that conformance exports, judged by weaver 0.25.1; WEAVER=program, SEMCONV_MODEL=folder
	@$(CARGO) run -q -p conformance -- live-check

demo: possible-brokers ## orders through three brokers, each as one trace
	@$(CARGO) run -q -p demo

bench: ## what instrumentation costs, beside the raw clients and hand-written instrumentation
	$(CARGO) bench -p bench --bench paths --bench prices --bench table
	$(CARGO) bench -p bench --bench prices --features bound-instruments -- meter_provider

bounds: ## whether it costs more than it may, in instructions and allocations; needs valgrind, which it installs as root
	@command -v valgrind >/dev/null || apt-get install -y -q valgrind || { apt-get update -q && apt-get install -y -q valgrind; }
	$(CARGO) bench -q -p bench --bench bounds

lint: ## rustfmt and clippy
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

docs: ## the documentation, with every link checked
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

clean-brokers: ## remove what `make brokers` put into target/brokers
	rm -rf "$${BROKERS_HOME:-target/brokers}"
