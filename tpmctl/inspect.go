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
		"of a TPM 2.0 (handle:0x81… instead of FILE) needs a TPM."
	fs.Example = "tpmctl " + name + " maclef\ntpmctl " + name + " handle:0x81000001"
	which := fs.TPM()
	operands, err := fs.Parse(args)
	if err != nil {
		return nil, err
	}
	return env.ReadKeyFile(operands[0], which, "keygen")
}

func keyRows(k blob.Key) ([]row, error) {
	if k, ok := k.(*blob.TSS2); ok {
		return keyRows20(k)
	}
	return keyRows12(k.(*blob.TPMKey))
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
	rows := append([]row{{"container", k.Container().String()}}, tss2Rows(k)...)
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

func canText(k blob.Key) string {
	var can []string
	switch {
	case k.CanSign() && restricted(k):
		can = append(can, "sign messages that the TPM hashes (restricted), no digests")
	case k.CanSign():
		can = append(can, "sign")
	}
	if k.CanDecrypt() {
		can = append(can, "decrypt")
	}
	if k.CanAgree() {
		can = append(can, "agree on a secret (ECDH)")
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
	if err != nil || len(indices) == 0 {
		return "no", err
	}
	return strings.Trim(fmt.Sprint(indices), "[]"), nil
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
