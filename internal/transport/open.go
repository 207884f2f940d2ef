package transport

import (
	"os"
	"path/filepath"
	"strings"
	"time"
)

// EnvName is the environment variable that names the TPM for Open("").
const EnvName = "TPMKEY_TPM"

// nameForms is what Open takes, for messages.
const nameForms = "a device path (/dev/tpm0), unix:PATH, tcp:HOST:PORT, emulator[:DIR] (TPM 1.2) or emulator2[:DIR] (TPM 2.0)"

// Open opens a TPM by name: the path of a device ("/dev/tpm0"), "unix:PATH" or
// "tcp:HOST:PORT" (data channel of swtpm), "emulator" or "emulator:DIR" (a
// software TPM 1.2 that it starts over a state directory, which must be the
// user's and writable by nobody else, by default $XDG_STATE_HOME/maclef/tpm12),
// "emulator2" or "emulator2:DIR" (the same with a TPM 2.0, by default in tpm20).
// The empty name means $TPMKEY_TPM, else the first TPM device of this machine,
// the kernel's resource manager before the bare device, never an emulator.
//
// wait is for other programs that use the TPM, in each turn. It takes no turn: whether a
// TPM is there shows in the first. Errors: ErrNoTPM, ErrNoSWTPM, or an unknown name.
func Open(name string, wait time.Duration) (*Device, error) {
	o := opener{waits: defaultWaits(), devices: "/dev"}
	o.waits.turn, o.waits.grace = wait, min(o.waits.grace, wait)
	return o.find(name)
}

// opener is Open with what tests change.
type opener struct {
	waits   waits
	devices string // directory of the device nodes
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

// openNamed tells the forms of a name apart; doing is the beginning of errors.
func (o opener) openNamed(name, doing string) (*Device, error) {
	form, rest, colon := strings.Cut(name, ":")
	switch { // paths are used again and again, from whatever working directory
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
	return nil, &nameError{doing: doing, name: name}
}

// nameError is for a name that has none of the forms.
type nameError struct{ doing, name string }

func (e *nameError) Error() string {
	return e.doing + ": unknown name \"" + e.name + "\": give " + nameForms
}

// firstDevice finds the node to use when no name is given: the resource
// manager's, which is there on TPM 2.0, before the bare ones.
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
