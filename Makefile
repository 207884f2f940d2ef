# make demo    the main job on a software TPM: a key, a certificate, HTTPS
# make test    all tests (installs what they need)
# make check   formatting, go vet, staticcheck, other systems
# make install the commands, on the PATH
#
# What a target needs from Debian or Ubuntu it installs itself, and says so.

GO       ?= go
PREFIX   ?= /usr/local
COMMANDS := keygen certgen tlsdemo tpmctl

# What runs the software TPM, and what the tests use besides.
DEMO_PACKAGES := swtpm util-linux openssl curl ca-certificates
TEST_PACKAGES := $(DEMO_PACKAGES) 'firefox-esr|firefox' gcc libc6-dev git bsdutils

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: build demo test check fuzz install clean demo-needs test-needs

# No VCS stamp: git refuses to look at a clone that is another user's.
build:
	$(GO) build -buildvcs=false -o bin/ $(addprefix ./,$(COMMANDS))

demo: demo-needs build
	@scripts/demo

test: test-needs build
	$(GO) vet ./...
	TLSDEMO_SCREENSHOT=$(CURDIR)/bin/firefox.png $(GO) test -race -timeout 20m ./...
	@echo "what Firefox saw is in bin/firefox.png"

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
