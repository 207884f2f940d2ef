# Targets install the Debian or Ubuntu packages that they need, and print their names.

GO       ?= go
PREFIX   ?= /usr/local
COMMANDS := keygen certgen tlsdemo tpmctl ecryptmount

# Packages for the demo and for the tests.
DEMO_PACKAGES := swtpm util-linux openssl curl ca-certificates
TEST_PACKAGES := $(DEMO_PACKAGES) 'firefox-esr|firefox' libnss3-tools gcc libc6-dev git bsdutils gocryptfs
# Packages for interop/ and for compiling its simulator.
CGO_PACKAGES     := gcc libc6-dev libssl-dev
INTEROP_PACKAGES := swtpm openssl tpm2-openssl tpm2-tools 'libtss2-tcti-swtpm0|libtss2-tcti-swtpm0t64' tpm-tools trousers bsdutils $(CGO_PACKAGES)
# Packages for the virtual machines of vm/, and inside them.
VM_PACKAGES := qemu-system-x86 swtpm swtpm-tools e2fsprogs util-linux bsdutils curl openssl ca-certificates gocryptfs fuse3 cryptsetup-bin xz-utils zstd

# Packages for bench, and for the projects that it compares with.
BENCH_PACKAGES := swtpm
PEER_PACKAGES  := openssl tpm2-openssl 'libtss2-tcti-swtpm0|libtss2-tcti-swtpm0t64'

# BENCH selects benchmarks. BENCHFLAGS are -quick and -goals, SOAKFLAGS for example -n 3000 -restarts 3.
BENCH      ?= .
BENCHFLAGS ?=
SOAKFLAGS  ?=

# The demo's generation of TPM, 1.2 or 2.0.
TPM ?= 1.2

# The number of machines at a time, and a regular expression for scenarios.
VM_JOBS ?= 4
VM      ?= .

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
BENCHSTAT   := golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da

.PHONY: help go-needed build demo test race interop vm-test docs bench soak check fuzz install uninstall clean demo-needs test-needs interop-needs check-needs vm-needs bench-needs peer-needs

.DEFAULT_GOAL := build

# Prints each target with the text after its ##.
help:
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r target words; do \
		printf 'make %-10s %s\n' "$$target" "$$words"; done

go-needed:
	@scripts/check-go $(GO)

# No VCS stamp: git refuses to read a clone that belongs to another user.
build: go-needed ## build the commands in bin/
	$(GO) build -buildvcs=false -o bin/ $(addprefix ./,$(COMMANDS))

demo: go-needed demo-needs build ## make a key and a certificate in a software TPM, serve HTTPS (TPM=2.0 for a TPM 2.0, PORT=8443 for another port)
	@TPM=$(TPM) exec scripts/demo

# The tests of tpmkey and tlsdemo take longest, so they begin first; a third package uses the time in which they
# wait. The race detector makes tests take twice as long, so it watches the short ones only; make race watches all.
test: go-needed test-needs build ## run all tests
	$(GO) vet ./...
	$(GO) test -p 3 -race -short ./tpmkey ./tlsdemo ./...
	TLSDEMO_SCREENSHOT="$(CURDIR)/bin/firefox.png" $(GO) test -p 3 -timeout 40m ./tpmkey ./tlsdemo ./...
	@echo "Firefox's screenshot is bin/firefox.png"
	$(MAKE) --no-print-directory interop

race: go-needed test-needs build ## run all tests with the race detector
	$(GO) test -race -timeout 60m ./tpmkey ./tlsdemo ./...

# interop/ is a separate module, so that users of the library do not get its dependencies.
interop: interop-needs ## exchange keys and sealed data with other programs (part of test)
	$(GO) -C interop vet ./...
	$(GO) -C interop test -timeout 10m ./...

vm-test: export VM_KERNEL := $(VM_KERNEL)
vm-test: vm-needs ## run the commands on a real kernel, in QEMU (Debian, amd64; VM=6-luks: a part)
	@mkdir -p bin/vm
	$(GO) test ./vm -count=1 -timeout 90m -run 'TestScenarios/all/$(VM)' -args -scenarios -jobs $(VM_JOBS) -transcripts "$(CURDIR)/bin/vm"
	@echo "the output of the machines is in bin/vm"

docs: vm-needs ## write the documents with output of these machines or of -h
	$(GO) test ./vm -count=1 -timeout 90m -run 'TestScenarios/all/$(VM)' -args -scenarios -jobs $(VM_JOBS) -write
	$(GO) test -run TestHelpPage . -update

# bench/peers is a separate module, so that users of the library do not get its dependencies.
bench: bench-needs peer-needs build ## measure performance (BENCHFLAGS=-quick: only check that it runs, BENCH=Use/tpm=2.0: a part)
	$(GO) -C bench/peers build -buildvcs=false -o ../../bin/ .
	scripts/bench $(BENCHSTAT) '$(BENCH)' $(BENCHFLAGS)
	$(if $(findstring -quick,$(BENCHFLAGS)),,TLSDEMO_OVERLOAD=60s $(GO) test -count=1 -v -run '^TestOverload$$|TenThousand' ./tlsdemo)

soak: bench-needs ## sign 100,000 times while the TPM restarts and other programs use it
	$(GO) test ./bench -count=1 -v -run '^TestSoak$$' -timeout 30m -args -soak $(SOAKFLAGS)

check: check-needs ## run gofmt, go vet and staticcheck, and build for other systems
	scripts/check $(STATICCHECK)

fuzz: ## run the fuzz targets (FUZZTIME=10m: for 10 minutes each)
	scripts/fuzz $(FUZZTIME)

# Under sudo there is often no Go. Then the commands in bin/ are installed without a build.
install: $(if $(and $(wildcard bin/tpmctl),$(if $(shell command -v $(GO)),,no)),,build) ## copy the commands to PREFIX/bin (PREFIX=/usr/local)
	install -d "$(DESTDIR)$(PREFIX)/bin"
	install -m 0755 $(addprefix bin/,$(COMMANDS)) "$(DESTDIR)$(PREFIX)/bin/"

uninstall: ## remove the commands from PREFIX/bin
	for command in $(COMMANDS); do rm -f "$(DESTDIR)$(PREFIX)/bin/$$command"; done

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
