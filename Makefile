# Postroom's commands. `make` lists them; those a newcomer needs are `make demo`, then `make test`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# More test threads than cores wait for each other's disc writes and time out.
export RUST_TEST_THREADS ?= 4
STACK := python3 tests/stack/stack.py
# What `test-fast`, `run` and `bench` pass on: make test-fast ARGS=a_reply_keeps
ARGS ?=

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## The whole service on sample data; prints the Swagger address and the logins
	cargo run --quiet -- sandbox $(ARGS)

.PHONY: run
run: ## The service as configured (postroom.toml, POSTROOM__… variables)
	cargo run --quiet -- serve $(ARGS)

.PHONY: setup
setup: ## Install what the tests need (Debian packages, Node and Python tools); skips what is there
	@tools/setup.sh

.PHONY: test
test: setup ## Every test: the crate on real servers, the stack, then the contract in the sandbox
	@tools/stage.sh build          cargo build --workspace --all-targets
	@tools/stage.sh stack          python3 tests/stack/test_stack.py
	@tools/stage.sh bounces        tools/bounce-corpus.sh target/bounces
	@tools/stage.sh cargo-test     env POSTROOM_TEST_BOUNCES=$(CURDIR)/target/bounces POSTROOM_TEST_PYTHON=$(CURDIR)/.venv/bin/python $(STACK) run -- cargo test --workspace --no-fail-fast
	@tools/stage.sh lint-openapi   tools/lint-openapi.sh
	@tools/stage.sh postman        tools/with-sandbox.sh tools/postman.sh
	@tools/stage.sh schemathesis   tools/with-sandbox.sh tools/schemathesis.sh
	@tools/stage.sh swagger-ui     tools/with-sandbox.sh node tools/swagger-ui.mjs

.PHONY: test-fast
test-fast: ## Only the crate's tests on real servers; ARGS=name picks some
	@$(STACK) run -- cargo test --workspace $(ARGS)

.PHONY: test-stack
test-stack: ## Only the tests of the test stack itself
	@python3 tests/stack/test_stack.py

.PHONY: check
check: ## Formatting, clippy, licences (cargo-deny, when installed)
	@tools/stage.sh fmt     cargo fmt --all --check
	@tools/stage.sh clippy  cargo clippy --workspace --all-targets --quiet -- -D warnings
	@if command -v cargo-deny >/dev/null; then tools/stage.sh deny cargo deny --locked --log-level error check bans licenses sources; \
	else echo 'deny: cargo-deny is not installed, skipped'; fi

.PHONY: fmt
fmt: ## Format the code
	cargo fmt --all

.PHONY: openapi
openapi: ## Write openapi/openapi.json anew from the code
	@mkdir -p openapi
	cargo run --quiet -- openapi > openapi/openapi.json.new
	@mv openapi/openapi.json.new openapi/openapi.json

.PHONY: postman
postman: ## Write the Postman collection anew (tools/postman-collection.py) for the operations of openapi/
	tools/postman-collection.py

.PHONY: bench
bench: ## Measure: intake, broadcasts, time to the offer, requests per second, each beside a reference
	@tools/setup.sh stack bench
	cargo build --release
	$(STACK) run --durable -- bench/bench.py $(ARGS)

.PHONY: mail-stack
mail-stack: ## Dovecot, Postfix and PostgreSQL in the foreground; prints what to put into an account
	@tools/setup.sh stack
	@$(STACK) up
