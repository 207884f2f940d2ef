package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"

	"maclef/internal/cli"
	"maclef/tpmkey"
)

// maxRandom is the largest N, in bytes. A chip makes a few kilobytes a second.
const maxRandom = 1 << 20

func random(env *cli.Env, flags *cli.FlagSet, args []string) error {
	flags.Args = []string{"N"}
	flags.Example = "tpmctl random -hex 32\ntpmctl random -out seed 64"
	which := flags.TPM()
	asHex := flags.Bool("hex", "write hexadecimal digits and a line end")
	output := outputFlags(flags)
	operands, err := flags.Parse(args)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(operands[0])
	if err != nil || n < 1 || n > maxRandom {
		return &cli.UsageError{
			Text:   fmt.Sprintf("N is a number of bytes from 1 to %d, not %q", maxRandom, operands[0]),
			Advice: "for 32 bytes: tpmctl random 32",
		}
	}
	out, err := output.open(env, cli.KeyMode)
	if err != nil {
		return err
	}
	defer out.Abort()
	data := make([]byte, n)
	defer clear(data)
	err = env.WithTPM(which, func(tpm *tpmkey.TPM) error {
		_, err := io.ReadFull(tpm.Random(context.Background()), data)
		return err
	})
	if err != nil {
		return err
	}
	if *asHex {
		data = append(hex.AppendEncode(nil, data), '\n')
	}
	return finish(out, data)
}
