//go:build !linux

package transport

import "runtime"

// deviceNumber is empty: the numbers of TPM devices are Linux's.
func deviceNumber(string) string { return "" }

func (o opener) openNode(doing, name string) (*Device, error) {
	return nil, failure(doing, name, ErrNoTPM, "TPM devices are for Linux, this is %s; use unix:PATH or tcp:HOST:PORT", runtime.GOOS)
}
