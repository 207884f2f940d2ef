//go:build !linux

package transport

import "runtime"

func (o opener) openNode(doing, name string) (*Device, error) {
	return nil, failure(doing, name, ErrNoTPM, "TPM devices are for Linux, this is %s; use unix:PATH or tcp:HOST:PORT", runtime.GOOS)
}

func (o opener) openEmulator(doing, form, dir string) (*Device, error) {
	return nil, failure(doing, form, ErrNoTPM, "the emulator is for Linux, this is %s; run swtpm yourself and use unix:PATH or tcp:HOST:PORT", runtime.GOOS)
}
