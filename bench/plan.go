//go:build linux

package main

// A plan is what is measured on a TPM of one generation.
type plan struct {
	operations []*operation
	shared     []sharing // by several processes
	slow       []sharing // on a slow chip, by one and by four
	servers    []server
	starts     []keyFile
	// startCommands is how many certgen should take with a key without a secret.
	startCommands int
	many          []crowd
	peers         []peer
}

// A sharing is one operation that so many processes do at once.
type sharing struct {
	*operation
	way       string
	file      keyFile
	processes []int
	least     float64 // of what one process does, that all together should do
}

// A crowd is many keys that one process has, and numbers of them that it uses. They are
// all of one file, which the TPM does not know.
type crowd struct {
	*operation
	name    string
	numbers []int
}

// password is that of every key that has one.
const password = "motdepasse"
