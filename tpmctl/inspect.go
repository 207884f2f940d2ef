package main

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"maclef/blob"
	"maclef/internal/cli"
	"maclef/internal/roca"
)

func inspect(env *cli.Env, fs *cli.FlagSet, args []string) error {
	k, err := readNamed(env, fs, args, "inspect")
	if err != nil {
		return err
	}
	rows, err := keyRows(k)
	if err != nil {
		return err
	}
	return printRows(env.Stdout, rows)
}

// readNamed parses the flags and reads the key that the operand names. It needs a TPM only for a
// persistent key.
func readNamed(env *cli.Env, fs *cli.FlagSet, args []string, name string) (blob.Key, error) {
	fs.Args = []string{"FILE"}
	fs.Notes = "FILE is a key file, - for standard input, or one of the files NAME.pub and NAME.priv of tpm2-tools. Only a persistent key " +
		"of a TPM 2.0 (0x81… or handle:0x81… instead of FILE) needs a TPM."
	fs.Example = "tpmctl " + name + " maclef\ntpmctl " + name + " handle:0x81000001"
	which := fs.TPM()
	operands, err := fs.Parse(args)
	if err != nil {
		return nil, err
	}
	return env.ReadKeyFile(operands[0], which, "keygen")
}

func keyRows(k blob.Key) (rows []row, err error) {
	switch k := k.(type) {
	case *blob.TSS2:
		rows, err = keyRows20(k)
	case *blob.TPMSealed:
		return sealedRows12(k)
	default:
		rows, err = keyRows12(k.(*blob.TPMKey))
	}
	if roca.Weak(k.PublicKey()) {
		rows = append(rows, row{"warning", "do not use this key: " + roca.Explanation})
	}
	return rows, err
}

// sealedRows12 returns the rows for data sealed to a TPM 1.2.
func sealedRows12(s *blob.TPMSealed) ([]row, error) {
	pcrs, err := s.PCRs()
	if err != nil {
		return nil, err
	}
	size, secret := len(s.Ciphertext), "none of its own"
	if s.NeedsSecret() {
		secret = "the data needs its own secret (-key-pass)"
	}
	return []row{
		{"container", s.Container().String()},
		{"data", fmt.Sprintf("%d to %d bytes, encrypted with AES-256-CBC; their key is sealed, and TPM_Unseal gives it", size-16, size-1)},
		{"storage key", fmt.Sprintf("RSA, %d bits, under the SRK", s.Key.KeyLength)},
		{"secret", secret},
		{"bound to PCRs", indicesText(pcrs)},
	}, nil
}

func keyRows12(k *blob.TPMKey) ([]row, error) {
	public, _ := k.PublicKey().(*rsa.PublicKey)
	digest, err := publicDigest(public)
	if err != nil {
		return nil, err
	}
	structure := "TPM_KEY (1.1)"
	if k.Key12 {
		structure = "TPM_KEY12"
	}
	pcrs, err := pcrText(k)
	if err != nil {
		return nil, err
	}
	return []row{
		{"container", k.Container().String()},
		{"structure", structure},
		{"key", fmt.Sprintf("RSA, %d bits, exponent %d", public.N.BitLen(), public.E)},
		{"usage", k.Usage.String()},
		{"encryption", k.EncScheme.String()},
		{"signature", k.SigScheme.String()},
		{"can", canText(k)},
		{"secret", secretText(k)},
		{"migratable", yesNo(k.Migratable())},
		{"flags", k.Flags.String()},
		{"bound to PCRs", pcrs},
		{"public key SHA-256", digest},
	}, nil
}

// keyRows20 returns the rows for a key of a TPM 2.0 or for sealed data.
func keyRows20(k *blob.TSS2) ([]row, error) {
	rows := tss2Rows(k)
	if k.Handle == 0 || k.Private != nil || k.Container() == blob.ESYSObject { // it is a file
		rows = append([]row{{"container", k.Container().String()}}, rows...)
	}
	if k.PublicKey() == nil { // the rows have said what it is
		return rows, nil
	}
	digest, err := publicDigest(k.PublicKey())
	return append(rows, row{"can", canText(k)}, row{"public key SHA-256", digest}), err
}

// publicDigest returns the SHA-256 of the SubjectPublicKeyInfo, as other programs print it.
func publicDigest(public crypto.PublicKey) (string, error) {
	spki, err := x509.MarshalPKIXPublicKey(public)
	return fmt.Sprintf("%x", sha256.Sum256(spki)), err
}

// canText says what the key does for a program, with the flags of tpmctl sign that it needs. A policy
// may be for other commands.
func canText(k blob.Key) string {
	var can []string
	flags, signs := signFlags(k)
	if flags != "" {
		flags = " (tpmctl sign " + flags + ")"
	}
	switch {
	case k.CanSign() && restricted(k):
		can = append(can, "sign messages that the TPM hashes (restricted), no digests"+flags)
	case k.CanSign() && signs:
		can = append(can, "sign"+flags)
	}
	if k.CanDecrypt() {
		can = append(can, "decrypt")
	}
	if k.CanAgree() {
		can = append(can, "agree on a secret (ECDH)")
	}
	if t, ok := k.(*blob.TSS2); can == nil && ok && isUseless(t) {
		return "nothing: no program can use it, for it has neither userWithAuth nor a policy"
	}
	if can == nil {
		return "neither sign nor decrypt"
	}
	return strings.Join(can, ", ")
}

func secretText(k blob.Key) string {
	if k.NeedsSecret() {
		return "the key needs its own secret (-key-pass)"
	}
	return "none of its own"
}

func pcrText(k *blob.TPMKey) (string, error) {
	indices, err := k.PCRs()
	return indicesText(indices), err
}

func indicesText(indices []int) string {
	if len(indices) == 0 {
		return "no"
	}
	return strings.Trim(fmt.Sprint(indices), "[]")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func pub(env *cli.Env, fs *cli.FlagSet, args []string) error {
	out := outputFlags(fs)
	k, err := readNamed(env, fs, args, "pub")
	if err != nil {
		return err
	}
	if k.Sealed() {
		return cli.WithHint(errors.New("this is sealed data, which has no public key"), "tpmctl unseal gives the data")
	}
	if err := k.Unsupported(); err != nil {
		return cli.WithHint(fmt.Errorf("there is no public key to write: %w", err), "tpmctl inspect says what is in the file")
	}
	spki, err := x509.MarshalPKIXPublicKey(k.PublicKey())
	if err != nil {
		return err
	}
	return out.write(env, cli.CertMode, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
}
