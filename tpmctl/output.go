package main

import (
	"io/fs"

	"maclef/internal/cli"
)

// output has the flags -out and -force.
type output struct {
	path  *string
	force *bool
}

func outputFlags(fs *cli.FlagSet) *output {
	return &output{
		path:  fs.String("out", "-", "output `FILE`, - for standard output"),
		force: fs.Bool("force", "replace the output file if it exists"),
	}
}

func (o *output) open(env *cli.Env, mode fs.FileMode) (*cli.Output, error) {
	return env.OpenOutput(*o.path, mode, *o.force)
}

func (o *output) write(env *cli.Env, mode fs.FileMode, data []byte) error {
	out, err := o.open(env, mode)
	if err != nil {
		return err
	}
	defer out.Abort()
	return finish(out, data)
}

// finish writes data and completes the file.
func finish(out *cli.Output, data []byte) error {
	if _, err := out.Write(data); err != nil {
		return err
	}
	return out.Commit()
}
