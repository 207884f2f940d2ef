//go:build linux

package main

// A plan is what is measured on a TPM of one generation.
type plan struct {
	operations []*operation
	shared     []sharing // by several processes
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
}

// A crowd is many keys that one process has, and numbers of them that it uses.
type crowd struct {
	*operation
	name    string
	files   []keyFile
	numbers []int
}

// password is that of every key that has one.
const password = "motdepasse"
