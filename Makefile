# make test    the whole suite: gofmt, vet, staticcheck, tests with -race and without
# make bench   the benchmarks, for BENCHTIME each (1x is one iteration)
# make fuzz    every fuzz target, for FUZZTIME each
# make soak    the tests with kills and faults, for minutes instead of seconds
# make demo-cluster   three chats on a cluster of three NATS nodes
# make screenshots   pictures of the examples, in docs/screenshots
# make setup   installs what the tests need beyond Go, or says what they skip
#
# PKG narrows bench and fuzz: make fuzz PKG=./router FUZZTIME=2s

GO ?= go
PKG ?= ./...
BENCHTIME ?= 1s
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
	@files=$$(gofmt -l .) && test -z "$$files" || { echo "not gofmt-ed:"; echo "$$files"; exit 1; }
	$(GO) vet ./...
	cd otel && $(GO) vet ./...
	$(GO) tool staticcheck ./...

bench:
	$(GO) test -run '^$$' -bench . -benchtime $(BENCHTIME) -benchmem $(PKG)

fuzz:
	@set -e; pkgs=$$($(GO) list $(PKG)); \
	for pkg in $$pkgs; do \
		targets=$$($(GO) test -list '^Fuzz' $$pkg) || { echo "$$targets"; exit 1; }; \
		for target in $$(echo "$$targets" | grep '^Fuzz'); do \
			echo "$$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg; \
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
