package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"

	"maclef/blob"
	"maclef/internal/cli"
)

func inspect(env *cli.Env, fs *cli.FlagSet, args []string) error {
	fs.Args = []string{"FILE"}
	fs.Example = "tpmctl inspect maclef"
	operands, err := fs.Parse(args)
	if err != nil {
		return err
	}
	k, err := env.ReadKey(operands[0])
	if err != nil {
		return err
	}
	rows, err := keyRows(k)
	if err != nil {
		return err
	}
	return printRows(env.Stdout, rows)
}

func keyRows(k *blob.Key) ([]row, error) {
	public := k.RSAPublicKey()
	spki, err := x509.MarshalPKIXPublicKey(public)
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
		{"container", k.Container.String()},
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
		{"public key SHA-256", fmt.Sprintf("%x", sha256.Sum256(spki))},
	}, nil
}

func canText(k *blob.Key) string {
	var can []string
	if k.CanSign() {
		can = append(can, "sign")
	}
	if k.CanDecrypt() {
		can = append(can, "decrypt")
	}
	if can == nil {
		return "neither sign nor decrypt"
	}
	return strings.Join(can, ", ")
}

func secretText(k *blob.Key) string {
	if k.NeedsSecret() {
		return "the key needs its own secret (-key-pass)"
	}
	return "none of its own"
}

func pcrText(k *blob.Key) (string, error) {
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
	fs.Args = []string{"FILE"}
	fs.Example = "tpmctl pub maclef"
	out := outputFlags(fs)
	operands, err := fs.Parse(args)
	if err != nil {
		return err
	}
	k, err := env.ReadKey(operands[0])
	if err != nil {
		return err
	}
	spki, err := x509.MarshalPKIXPublicKey(k.PublicKey())
	if err != nil {
		return err
	}
	return out.write(env, cli.CertMode, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
}
