package tpmtest

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// Tests are the tests of a package, for its TestMain. SIGINT and SIGHUP end the programs
// that they start, even where those who started the tests ignore these signals, as nohup
// does, and a script's background.
type Tests struct{ testscript.TestingM }

func (t Tests) Run() int {
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGHUP} {
		if signal.Ignored(sig) {
			// A program inherits what is ignored, not what is caught.
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
	return t.TestingM.Run()
}
