package transport

func (o opener) openEmulator(doing, dir string) (*Device, error) {
	return nil, failure(doing, "emulator", ErrNoTPM, "later")
}
