# What a target needs from Debian or Ubuntu it installs itself, and says so.

GO       ?= go
PREFIX   ?= /usr/local
COMMANDS := keygen certgen tlsdemo tpmctl ecryptmount

# What runs the software TPM, and what the tests use besides.
DEMO_PACKAGES := swtpm util-linux openssl curl ca-certificates
TEST_PACKAGES := $(DEMO_PACKAGES) 'firefox-esr|firefox' gcc libc6-dev git bsdutils gocryptfs
# What interop/ tests against, and what its simulator is compiled with.
CGO_PACKAGES     := gcc libc6-dev libssl-dev
INTEROP_PACKAGES := swtpm openssl tpm2-openssl tpm2-tools 'libtss2-tcti-swtpm0|libtss2-tcti-swtpm0t64' $(CGO_PACKAGES)
# What the machines of vm/ are made of, and have in them besides a kernel.
VM_PACKAGES := qemu-system-x86 swtpm swtpm-tools e2fsprogs util-linux bsdutils curl openssl ca-certificates gocryptfs fuse3 cryptsetup-bin xz-utils zstd

# What measures beside them, and whom bench compares with.
BENCH_PACKAGES := swtpm
PEER_PACKAGES  := openssl tpm2-openssl 'libtss2-tcti-swtpm0|libtss2-tcti-swtpm0t64'

# Flags of bench/: -quick and -goals; -n 3000 -restarts 3. BENCH are the benchmarks.
BENCH      ?= .
BENCHFLAGS ?=
SOAKFLAGS  ?=

# The generation that the demo shows, 1.2 or 2.0.
TPM ?= 1.2

# So many machines at a time, and which scenarios, as a regular expression.
VM_JOBS ?= 2
VM      ?= .

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
BENCHSTAT   := golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da

.PHONY: help go-needed build demo test interop vm-test docs bench soak check fuzz install uninstall clean demo-needs test-needs interop-needs check-needs vm-needs bench-needs peer-needs

.DEFAULT_GOAL := build

# The first words of each ## line.
help:
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r target words; do \
		printf 'make %-10s %s\n' "$$target" "$$words"; done

go-needed:
	@scripts/check-go $(GO)

# No VCS stamp: git refuses to look at a clone that is another user's.
build: go-needed ## build the commands in bin/
	$(GO) build -buildvcs=false -o bin/ $(addprefix ./,$(COMMANDS))

demo: go-needed demo-needs build ## the main job on a software TPM: key, certificate, HTTPS (TPM=2.0 for a TPM 2.0, PORT=8443 for another port)
	@TPM=$(TPM) exec scripts/demo

test: go-needed test-needs build ## all tests; installs what they need
	$(GO) vet ./...
	TLSDEMO_SCREENSHOT=$(CURDIR)/bin/firefox.png $(GO) test -race -timeout 20m ./...
	@echo "what Firefox saw is in bin/firefox.png"
	$(MAKE) --no-print-directory interop

# A module of its own, so that nobody who uses the library gets what this needs.
interop: interop-needs ## keys to and from other programs for TPM 2.0 (part of test)
	$(GO) -C interop vet ./...
	$(GO) -C interop test -timeout 10m ./...

vm-test: export VM_KERNEL := $(VM_KERNEL)
vm-test: vm-needs ## the commands on a real kernel, in QEMU (Debian, amd64; VM=6-luks: a part)
	@mkdir -p bin/vm
	$(GO) test ./vm -count=1 -timeout 90m -parallel $(VM_JOBS) -run 'TestScenarios/all/$(VM)' -args -scenarios -transcripts $(CURDIR)/bin/vm
	@echo "what the machines printed is in bin/vm"

docs: vm-needs ## write the documents that those machines and -h print
	$(GO) test ./vm -count=1 -timeout 90m -run 'TestScenarios/all/$(VM)' -args -scenarios -write
	$(GO) test -run TestHelpPage . -update

# The other projects' signers are a module of their own, so that nobody who uses the
# library gets what they need.
bench: bench-needs peer-needs build ## how fast it is (BENCHFLAGS=-quick: only whether it runs, BENCH=Use/tpm=2.0: a part)
	$(GO) -C bench/peers build -buildvcs=false -o ../../bin/ .
	scripts/bench $(BENCHSTAT) '$(BENCH)' $(BENCHFLAGS)
	$(if $(findstring -quick,$(BENCHFLAGS)),,TLSDEMO_OVERLOAD=60s $(GO) test -count=1 -v -run '^TestOverload$$|TenThousand' ./tlsdemo)

soak: bench-needs ## 100,000 signatures while the TPM restarts and programs come and go
	$(GO) test ./bench -count=1 -v -run '^TestSoak$$' -timeout 30m -args -soak $(SOAKFLAGS)

check: check-needs ## gofmt, go vet, staticcheck, other systems
	scripts/check $(STATICCHECK)

fuzz: ## the fuzz targets, for a while (FUZZTIME=10m)
	scripts/fuzz $(FUZZTIME)

# sudo often has no Go: then what was built before is installed as it is.
install: $(if $(and $(wildcard bin/tpmctl),$(if $(shell command -v $(GO)),,no)),,build) ## copy the commands to PREFIX/bin (/usr/local/bin)
	install -d "$(DESTDIR)$(PREFIX)/bin"
	install -m 0755 $(addprefix bin/,$(COMMANDS)) "$(DESTDIR)$(PREFIX)/bin/"

uninstall: ## remove the commands again
	cd "$(DESTDIR)$(PREFIX)/bin" && rm -f $(COMMANDS)

clean: ## remove bin/
	rm -rf bin

demo-needs:
	@scripts/install-packages $(DEMO_PACKAGES)

test-needs:
	@scripts/install-packages $(TEST_PACKAGES)

interop-needs:
	@scripts/install-packages $(INTEROP_PACKAGES)

check-needs:
	@scripts/install-packages $(CGO_PACKAGES)

bench-needs:
	@scripts/install-packages $(BENCH_PACKAGES)

peer-needs:
	@scripts/install-packages $(PEER_PACKAGES)

vm-needs:
	@scripts/install-packages $(VM_PACKAGES)
