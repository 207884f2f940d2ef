package transport

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// EnvName is the environment variable that names the TPM for Open("").
const EnvName = "TPMKEY_TPM"

// nameForms lists the names that Open takes, for messages.
const nameForms = "a device path (/dev/tpm0), unix:PATH, tcp:HOST:PORT, emulator[:DIR] (TPM 1.2) or emulator2[:DIR] (TPM 2.0)"

// Open opens a TPM by name:
//
//   - the path of a device: "/dev/tpm0"
//   - the data channel of swtpm: "unix:PATH" or "tcp:HOST:PORT"
//   - "emulator" or "emulator:DIR": a software TPM 1.2, which Open starts over a state
//     directory. The directory must belong to the user, and nobody else may write to it. The
//     default is $XDG_STATE_HOME/maclef/tpm12.
//   - "emulator2" or "emulator2:DIR": the same with a TPM 2.0; the default is tpm20
//
// The empty name means $TPMKEY_TPM, else the first TPM device of this machine: the kernel's
// resource manager before the bare device, never an emulator.
//
// wait limits how long each turn waits for other programs. Open takes no turn, so the first
// turn finds out whether there is a TPM. Errors: ErrNoTPM, ErrNoSWTPM, or an unknown name.
func Open(name string, wait time.Duration) (*Device, error) {
	o := opener{timeouts: defaultTimeouts(), devices: "/dev"}
	o.timeouts.turn, o.timeouts.grace = wait, min(o.timeouts.grace, wait)
	return o.find(name)
}

// An opener is Open with settings that tests change.
type opener struct {
	timeouts timeouts
	devices  string // directory of the device nodes
}

func (o opener) find(name string) (*Device, error) {
	if name != "" {
		return o.openNamed(name, "open TPM")
	}
	if name = os.Getenv(EnvName); name != "" {
		return o.openNamed(name, "open TPM ($"+EnvName+")")
	}
	name, err := o.firstDevice()
	if err != nil {
		return nil, err
	}
	return o.openNamed(name, "open TPM")
}

// openNamed opens a TPM by the form of its name. doing begins the messages of errors.
func (o opener) openNamed(name, doing string) (*Device, error) {
	form, rest, colon := strings.Cut(name, ":")
	switch { // make paths absolute: the working directory may change
	case form == "unix" && colon && rest != "":
		if path, err := filepath.Abs(rest); err == nil {
			rest = path
		}
	case !colon && strings.ContainsAny(name, `/\`):
		if path, err := filepath.Abs(name); err == nil {
			name = path
		}
	}
	switch {
	case colon && (form == "unix" || form == "tcp"):
		return o.openSocket(doing, form, rest)
	case (form == "emulator" || form == "emulator2") && (!colon || rest != ""):
		return o.openEmulator(doing, form, rest)
	case strings.ContainsAny(form, `/\`):
		return o.openNode(doing, name)
	}
	return nil, fmt.Errorf("%s: %w \"%s\": give %s", doing, ErrUnknownName, name, nameForms)
}

// firstDevice finds the device to use when no name is given. It prefers the resource
// manager (TPM 2.0) to the bare device.
func (o opener) firstDevice() (string, error) {
	for _, pattern := range []string{"tpmrm0", "tpm[0-9]*"} {
		found, err := filepath.Glob(filepath.Join(o.devices, pattern))
		if err == nil && len(found) > 0 {
			return found[0], nil
		}
	}
	return "", failure("open TPM", "", ErrNoDevice, "this machine has no %s/tpm0: switch the TPM on in the firmware's "+
		"settings and see that its driver is loaded (dmesg | grep -i tpm), or name another one: %s; "+
		"an emulator is for trying out and protects nothing", o.devices, nameForms)
}
