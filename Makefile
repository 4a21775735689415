# make test    the whole suite: gofmt, vet, staticcheck, tests with -race and without
# make bench   the benchmarks, one run each
# make fuzz    every fuzz target, FUZZTIME each
# make soak    the tests with kills and faults, for minutes instead of seconds
# make demo-cluster   three chats on a cluster of three NATS nodes
# make screenshots   pictures of the examples, in docs/screenshots
# make setup   installs what the tests need beyond Go, or says what they skip

GO ?= go
FUZZTIME ?= 20s

.PHONY: test lint bench fuzz soak demo-cluster screenshots setup

# Twice: with the race detector, under which SQLite in Go is ten times slower and
# tests of it are smaller, and at full size. The detector needs a C compiler;
# setup has said so if there is none.
test: setup lint
	if command -v gcc >/dev/null 2>&1; then $(GO) test -race -timeout 30m ./...; fi
	cd otel && $(GO) test ./...
	$(GO) test -timeout 30m ./...

lint:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not gofmt-ed:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	cd otel && $(GO) vet ./...
	$(GO) tool staticcheck ./...

bench:
	$(GO) test -run '^$$' -bench . -benchmem ./...

fuzz:
	@for pkg in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "$$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
		done; \
	done

soak: setup
	LEVADA_SOAK=1 $(GO) test -count=1 -timeout 6h ./eventstore/...

demo-cluster:
	$(GO) run ./examples/chat/cluster

screenshots: setup
	mkdir -p docs/screenshots
	LEVADA_SCREENSHOTS=$(CURDIR)/docs/screenshots $(GO) test -count=1 -run SomethingToLookAt ./examples

setup:
	@.ci/setup
