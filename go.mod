module maclef

go 1.24.0

require (
	github.com/google/go-tpm v0.9.8
	github.com/rogpeppe/go-internal v1.14.1
	golang.org/x/crypto v0.48.0
	golang.org/x/sys v0.41.0
	golang.org/x/term v0.40.0
)

require golang.org/x/tools v0.26.0 // indirect
