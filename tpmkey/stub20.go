package tpmkey

import (
	"errors"

	"maclef/blob"
)

// Stubs: each is to be removed by whoever has the real thing.

// Policy is helper POLICY's (policy.go).
type Policy struct{}

// chipAbilities20 and newAbilities20 are helper ABLE's (key20.go). A nil can stands
// for a chip with the usual abilities.
type chipAbilities20 struct{}

func newAbilities20(file *blob.Key, can *chipAbilities20) (abilities, error) {
	return nil, errors.New("TPM 2.0 is being built")
}
