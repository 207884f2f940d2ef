package transport

import (
	"testing"
)

func TestEmulatorFirstUse(t *testing.T) {
	dir := stateDir(t)
	d := mustOpen(t, "emulator:"+dir)
	if err := alive(d); err != nil {
		t.Fatal(err)
	}
	t.Log(programs(dir))
	d.Close()
	emptied(t, dir)
}
