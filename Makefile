# Two commands do everything: `make demo` runs the main job, `make test` passes the tests. Both install what is missing.

TOOLS := $(or $(ISTHMUS_TOOLS),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/isthmus)
ENVOY_BIN ?= $(or $(shell command -v envoy 2>/dev/null),$(TOOLS)/venv/bin/envoy)
export ENVOY_BIN

# One set of flags for everything that is built natively, so that everything is built once.
BUILD := --locked --workspace --all-features

.PHONY: demo test tools-demo check test-native test-wasm docs fuzz wasm tools clean

## demo: start everything on this machine and walk the tour; ARGS=--once ends after it
demo: tools-demo
	cargo build --quiet $(BUILD) --bins
	target/debug/isthmus demo $(ARGS)

## test: format, lints, native tests, the engine's tests as WebAssembly, end-to-end tests through Envoy
test: tools check test-native test-wasm

check:
	cargo fmt --all --check
	cargo clippy $(BUILD) --all-targets -- -D warnings

test-native:
	cargo build $(BUILD) --bins
	cargo test $(BUILD)

test-wasm:
	PATH="$$PATH:$(TOOLS)/venv/bin" \
	CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER="$$(tools/setup --wasm-test-runner)" \
	tools/cargo-wasm test --locked --release -p isthmus-engine --target-dir target/wasm

## docs: write docs/configuration.md anew, from the schema
docs:
	UPDATE_DOCS=1 cargo test --quiet $(BUILD) --test command reference

## fuzz: every fuzz target, for SECONDS each (600)
fuzz:
	tools/fuzz $(or $(SECONDS),600)

## wasm: the release module at target/isthmus.wasm, its SHA-256 beside it
wasm:
	@tools/setup rust wasm
	cargo build --quiet --locked --release -p isthmus
	@cat target/isthmus.wasm.sha256

## tools: install what the build and the tests need and this machine lacks
tools:
	@tools/setup rust wasm envoy wasm-tests providers

tools-demo:
	@tools/setup rust wasm envoy

clean:
	cargo clean
