package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
)

// restrict is "restrict KEY SCHEME HASH FILE": write the file of a key that is limited to
// a scheme. No TPM has such a key; what is refused without one is refused.
func restrict(args []string) int {
	if err := restrictFile(args[0], args[1], args[2], args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// algs are algorithms as they stand in a public area.
func algs(all ...tpm2.TPMAlgID) (b []byte) {
	for _, alg := range all {
		b = binary.BigEndian.AppendUint16(b, uint16(alg))
	}
	return b
}

func restrictFile(from, scheme, hash, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	key, err := blob.Parse(data)
	if err != nil {
		return err
	}
	alg := map[string]tpm2.TPMAlgID{"rsapss": tpm2.TPMAlgRSAPSS, "rsassa": tpm2.TPMAlgRSASSA, "ecdsa": tpm2.TPMAlgECDSA}[scheme]
	with := map[string]tpm2.TPMAlgID{"sha1": tpm2.TPMAlgSHA1, "sha384": tpm2.TPMAlgSHA384, "sha512": tpm2.TPMAlgSHA512}[hash]
	// The parameters: symmetric NULL, scheme NULL.
	file := key.(*blob.TSS2)
	before, after, ok := bytes.Cut(file.Public, algs(tpm2.TPMAlgNull, tpm2.TPMAlgNull))
	if !ok {
		return fmt.Errorf("%s has a scheme", from)
	}
	public := bytes.Join([][]byte{before, after}, algs(tpm2.TPMAlgNull, alg, with))
	size := len(public) - 2
	public[0], public[1] = byte(size>>8), byte(size)
	file.Public = public
	if data, err = file.Marshal(file.Container()); err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o600)
}
