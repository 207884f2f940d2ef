//go:build !unix

package cli

import (
	"errors"
	"os"
)

func inheritedFile(int) (*os.File, error) {
	return nil, errors.New("this system does not pass file descriptors by number")
}
