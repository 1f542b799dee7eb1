# `make help` lists the targets.

BIN      := bin/mailbench
GO       ?= go
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  := -X main.version=$(VERSION)
# Integration tests share two processors with the cluster that they test.
TESTFLAGS ?= -timeout 60m

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## compile bin/mailbench
	@$(GO) build -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/mailbench

.PHONY: image
image: build ## find or build the image that the cluster's nodes run
	@$(BIN) cluster image

.PHONY: programs
programs: build ## find or build the image of real Exim, Postgrey, slapd and sysbench
	@$(BIN) cluster image --programs

.PHONY: run
run: image ## run the scenario peak-hour: kill nodes under a 4M-messages/day load
	@$(BIN) run peak-hour

.PHONY: test
test: image programs ## unit tests, and integration tests against a real cluster
	@$(BIN) cluster down --name test >/dev/null
	@status=0; $(GO) test $(TESTFLAGS) ./... || status=$$?; \
	  $(BIN) cluster down --name test || status=$$?; exit $$status

.PHONY: unit
unit: ## unit tests only: no container engine needed
	$(GO) test -short ./...

.PHONY: race
race: ## unit tests under the race detector
	$(GO) test -short -race ./...

.PHONY: lint
lint: ## gofmt, go vet, staticcheck
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt -w these:"; echo "$$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

.PHONY: bench
bench: ## the benchmarks that docs/benchmarks.md quotes
	$(GO) test -short -run '^$$' -bench . -benchmem -cpu 1 ./workload ./results ./results/report ./results/metrics ./results/compare ./scenarios/ledger ./workload/maillog

# Results are printed; nothing else should run on the machine meanwhile.
PEERS = \
  "PreferenceValue -benchtime 200x ./reference/preferences" \
  "TripletMemory -benchtime 1x ./reference/greylist" \
  "Price -benchtime 2000x ./reference/greylist" \
  "BesidePostgrey -benchtime 5x ./reference/greylist" \
  "BesideSysbench -benchtime 3x ./reference/routing" \
  "BesideSysbench -benchtime 3x ./results" \
  "Route -benchtime 8000x ./reference/sqlnode"

.PHONY: peers
peers: image programs ## the reference paths beside Postgrey and sysbench, on a real cluster
	@$(BIN) cluster down --name test >/dev/null
	@status=0; for arguments in $(PEERS); do \
	    $(GO) test -run '^$$' -timeout 30m -bench $$arguments || status=$$?; \
	  done; $(BIN) cluster down --name test || status=$$?; exit $$status

REQUESTS ?= 1000000
SEED     ?= $(shell date +%s)

.PHONY: differential
differential: image programs ## a long differential test of greylisting: REQUESTS=1000000 SEED=now
	@status=0; $(GO) test -count=1 -v -run TestDifferentialPostgrey -timeout 120m ./reference/greylist \
	    -differential.requests $(REQUESTS) -differential.seed $(SEED) || status=$$?; \
	  $(BIN) cluster down --name test || status=$$?; exit $$status

ONLY ?= .

.PHONY: heal-matrix
heal-matrix: image ## kill the harness at every step of every fault, and heal: the cases without a row of the seed. ONLY=regexp SEED=1
	$(GO) test -count=1 -v -run 'TestHealMatrix$$' -timeout 240m ./cmd/mailbench \
	    -heal.matrix -heal.only '$(ONLY)' -heal.seed $(if $(filter file,$(origin SEED)),1,$(SEED))
	$(GO) test -count=1 -run HealMatrix ./cmd/mailbench -update

.PHONY: fault-table
fault-table: image ## go on with the table of docs/faults.md: some two hours in all
	@$(BIN) chaos table scenarios/faulttable/*.yaml --rows results/faults/table.jsonl
	@$(GO) test ./scenarios -run TestFaultTableInDocs -update

.PHONY: clean
clean: ## remove what was compiled, and what crashed runs left in the engine
	-@test -x $(BIN) && $(BIN) heal
	rm -rf bin
