# make demo    the main job on a software TPM: a key, a certificate, HTTPS
# make test    all tests (installs what they need)
# make vm-test what people do, on a real kernel: machines in QEMU (Debian, amd64)
# make docs    writes docs/ from what those machines print
# make bench   how fast it is, as a table; BENCHFLAGS=-quick only looks whether it runs
# make soak    100,000 signatures while the TPM restarts and programs come and go
# make check   formatting, go vet, staticcheck, other systems
# make install the commands, on the PATH
#
# What a target needs from Debian or Ubuntu it installs itself, and says so.

GO       ?= go
PREFIX   ?= /usr/local
COMMANDS := keygen certgen tlsdemo tpmctl ecryptmount

# What runs the software TPM, and what the tests use besides.
DEMO_PACKAGES := swtpm util-linux openssl curl ca-certificates
TEST_PACKAGES := $(DEMO_PACKAGES) 'firefox-esr|firefox' gcc libc6-dev git bsdutils
# What the machines of vm/ are made of, and have in them besides a kernel.
VM_PACKAGES := qemu-system-x86 swtpm swtpm-tools e2fsprogs util-linux bsdutils curl openssl ca-certificates gocryptfs fuse3 cryptsetup-bin xz-utils zstd

# What measures beside them.
BENCH_PACKAGES := swtpm

# Flags of the two programs in bench/, such as -goals; -n 3000 -restarts 3.
BENCHFLAGS ?=
SOAKFLAGS  ?=

# So many machines at a time.
VM_JOBS ?= 2

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: build demo test vm-test docs bench soak check fuzz install clean demo-needs test-needs vm-needs bench-needs

# No VCS stamp: git refuses to look at a clone that is another user's.
build:
	$(GO) build -buildvcs=false -o bin/ $(addprefix ./,$(COMMANDS))

demo: demo-needs build
	@scripts/demo

test: test-needs build
	$(GO) vet ./...
	TLSDEMO_SCREENSHOT=$(CURDIR)/bin/firefox.png $(GO) test -race -timeout 20m ./...
	@echo "what Firefox saw is in bin/firefox.png"

vm-test: export VM_KERNEL := $(VM_KERNEL)
vm-test: vm-needs
	@mkdir -p bin/vm
	$(GO) run -buildvcs=false ./vm -jobs $(VM_JOBS) -docs docs -transcripts bin/vm vm/scenarios/*.sh
	@echo "what the machines printed is in bin/vm"

docs: vm-needs
	$(GO) run -buildvcs=false ./vm -docs docs -write vm/scenarios/*.sh

# Built first: go run would pass no signal on, and end with a status of its own.
bench: bench-needs build
	$(GO) build -buildvcs=false -o bin/ ./bench
	bin/bench -certgen bin/certgen $(BENCHFLAGS)
	$(if $(findstring -quick,$(BENCHFLAGS)),,TLSDEMO_OVERLOAD=60s $(GO) test -count=1 -v -run '^TestOverload$$|TenThousand' ./tlsdemo)

soak: bench-needs
	$(GO) build -buildvcs=false -o bin/ ./bench
	bin/bench soak $(SOAKFLAGS)

check:
	scripts/check $(STATICCHECK)

fuzz:
	scripts/fuzz $(FUZZTIME)

# sudo often has no Go: then what was built before is installed as it is.
install: $(if $(and $(wildcard bin/tpmctl),$(if $(shell command -v $(GO)),,no)),,build)
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 0755 $(addprefix bin/,$(COMMANDS)) $(DESTDIR)$(PREFIX)/bin/

clean:
	rm -rf bin

demo-needs:
	@scripts/install-packages $(DEMO_PACKAGES)

test-needs:
	@scripts/install-packages $(TEST_PACKAGES)

bench-needs:
	@scripts/install-packages $(BENCH_PACKAGES)

vm-needs:
	@scripts/install-packages $(VM_PACKAGES)
