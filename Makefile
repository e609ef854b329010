# Two commands matter: `make run` and `make test`. Both set up what they need.
SHELL := /bin/bash
GO ?= go
export GOFLAGS ?= -buildvcs=false
OLDEST = $(shell tools/pythons.sh oldest | cut -d' ' -f2)
NEWEST = $(shell tools/pythons.sh newest | cut -d' ' -f1)
SOURCES = $(wildcard $(shell git ls-files -co --exclude-standard '*.go' '*.py' '*.c' '*.h' 'go.*' 2>/dev/null))

.PHONY: build ext run test check lint bench bench-ws bench-state soak conformance fuzz wheel clean check-go check-python test-go test-js test-python test-sanitize test-e2e

build: bin/guado

# The extension is built against the stable ABI of the oldest Python found, so one file serves all.
ext: python/guado/_core.abi3.so
python/guado/_core.abi3.so: $(wildcard python/guado/csrc/*.c python/guado/csrc/*.h) python/build_ext.py
	tools/setup.sh system
	$(OLDEST) python/build_ext.py

bin/guado: python/guado/_core.abi3.so $(SOURCES)
	$(GO) build -trimpath -o $@ ./cmd/guado

run: python/guado/_core.abi3.so
	examples/tour/run.sh

# The inner loop: two minutes.
check: build
	tools/setup.sh test
	$(MAKE) -j2 check-go check-python

check-go:
	$(GO) vet ./...
	$(GO) test -short ./internal/... ./cmd/... .

check-python:
	.cache/venv-$(NEWEST)/bin/python -m pytest -q -x --quick python/tests

test: build
	tools/setup.sh test
	tools/setup.sh genropy
	$(GO) vet ./...
	GOOS=darwin $(GO) vet ./...
	tools/setup.sh js
	$(MAKE) test-go test-js
	$(MAKE) -j2 $(if $(filter output-sync,$(.FEATURES)),-O) test-python test-sanitize
	$(MAKE) test-e2e

test-go:
	$(GO) test -race -timeout 20m ./internal/... ./cmd/... .

test-js:
	node --test js/test/*.test.js

# Their workers wait more than they work: two at a time.
test-python: test-python-oldest test-python-newest test-python-middle

test-python-%:
	tools/test-python.sh $*

test-sanitize:
	tools/test-sanitize.sh

test-e2e: build
	$(GO) test -race -timeout 15m ./test/...

lint:
	tools/setup.sh lint
	tools/lint.sh

bench: build
	tools/setup.sh bench
	tools/setup.sh genropy
	.cache/bench/bin/python bench/run.py
	.cache/bench/bin/python bench/cancel.py
	.cache/bench/bin/python bench/overhead.py
	GUADO_BENCH=1 $(GO) test -count=1 -v -run GenroPy ./test/genropy

# Stores beside a dict, Redis and Pyro4, the page workload, a start behind kill -9, and memory
# (docs/benchmarks.md). Fails where a figure is missed.
bench-state: build
	tools/setup.sh bench
	.cache/bench/bin/python bench/figures.py

bench-ws: build
	tools/setup.sh bench
	.cache/bench/bin/python bench/ws.py

# One package after the other, because they measure; an hour and a quarter, of which the kill test
# takes half an hour, memory and faults as long, and each is cut after 75 minutes.
soak: build
	tools/setup.sh test
	tools/setup.sh bench
	GUADO_SOAK=1 $(GO) test -count=1 -p 1 -timeout 75m -run Soak -v . ./test/steps ./test/chaos/...

conformance: build
	tools/setup.sh test
	tools/conformance.sh

fuzz: build
	tools/fuzz.sh

wheel: build
	$(OLDEST) tools/wheel.py

clean:
	rm -rf bin dist python/guado/*.so
