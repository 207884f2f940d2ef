package tpmtest

import (
	"slices"

	"maclef/internal/relay"
)

// Name is what a command was, for reports: "TPM2_Load".
func (e Exchange) Name() string { return relay.CommandName(e.Command) }

// Code is the result code of the answer, and whether there was an answer.
func (e Exchange) Code() (code uint32, answered bool) {
	return relay.Code(e.Response), len(e.Response) >= 10
}

// Sessions returns the sessions of a TPM 2.0 that authorize or encrypt a command,
// without the one that stands for a password in clear.
func (e Exchange) Sessions() []uint32 {
	_, sessions := relay.Parts20(e.Command)
	return slices.DeleteFunc(sessions, func(s uint32) bool { return s == passwordSession })
}
