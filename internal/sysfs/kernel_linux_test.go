package sysfs

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeKernel is a system with these files; a text that begins with "->" is a link.
func fakeKernel(t *testing.T, files map[string]string) Kernel {
	t.Helper()
	k := Kernel{Root: t.TempDir()}
	for name, text := range files {
		path := filepath.Join(k.Root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(text, "->"); ok {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return k
}

// laptop is what Linux 6.1 shows of a TPM 1.2, held by tcsd.
var laptop = map[string]string{
	"sys/class/tpm/tpm0/tpm_version_major":                "1\n",
	"sys/class/tpm/tpm0/device/driver":                    "->../../../bus/pnp/drivers/tpm_tis",
	"sys/class/tpm/tpm0/device/firmware_node/hid":         "IFX0102\n",
	"sys/class/tpm/tpm0/device/firmware_node/description": "TPM 1.2 Device\n",
	"sys/class/tpm/tpm0/device/caps":                      "Manufacturer: 0x49465800\nTCG version: 1.2\nFirmware version: 3.17\n",
	"sys/class/tpm/tpm0/device/enabled":                   "1\n",
	"sys/class/tpm/tpm0/device/active":                    "1\n",
	"sys/class/tpm/tpm0/device/owned":                     "0\n",
	"sys/class/tpm/tpm0/device/temp_deactivated":          "1\n",
	"sys/class/tpm/tpm0/ppi/version":                      "1.2\n",
	"sys/class/tpm/tpm0/ppi/request":                      "0\n",
	"sys/class/tpm/tpm0/ppi/response":                     "6 0xFFFFFFF0: User Abort\n",
	"sys/class/tpm/tpm0/ppi/transition_action":            "1: Shutdown\n",
	"dev/tpm0":                              "",
	"dev/mytpm":                             "->tpm0",
	"proc/77/comm":                          "tcsd\n",
	"proc/77/fd/3":                          "->/dev/tpm0",
	"proc/78/comm":                          "sleep\n",
	"proc/78/fd/3":                          "->/dev/null",
	"proc/78/fd/4":                          "->/dev/tpmrm10",
	"sys/class/tpm/tpm10/tpm_version_major": "2\n",
	"sys/class/tpm/tpm10/device/driver":     "->../drivers/tpm_crb",
	"sys/class/tpm/tpm10/device/firmware_node/hid": "MSFT0101\n",
	"dev/tpm10":                             "",
	"dev/tpmrm10":                           "",
	"sys/class/tpm/tpm2/device/enabled":     "", // no version, no answer
	"sys/class/tpm/tpm2/device/caps":        "Manufacturer: 0xzz\nnonsense\n",
	"sys/class/tpm/tpm3/owned":              "0\n", // an old kernel with a TPM 1.2
	"sys/class/tpm/tpm3/device/ppi/request": "",
	"sys/class/tpmrm/tpmrm10/uevent":        "",
	"sys/firmware/acpi/tables/TCPA":         "",
}

func TestKernelNodes(t *testing.T) {
	k := fakeKernel(t, laptop)
	nodes := k.Nodes()
	var names []string
	for _, n := range nodes {
		names = append(names, n.Device+" "+n.Family)
	}
	if got := strings.Join(names, ", "); got != "/dev/tpm0 1.2, /dev/tpm2 , /dev/tpm3 1.2, /dev/tpm10 2.0" {
		t.Fatal(got)
	}
	got, err := json.Marshal(nodes[0])
	if err != nil {
		t.Fatal(err)
	}
	want := `{"device":"/dev/tpm0","family":"1.2","driver":"tpm_tis","id":"IFX0102","description":"TPM 1.2 Device",` +
		`"held_by":[{"pid":77,"program":"tcsd"}],` +
		`"ppi":{"version":"1.2","last":6,"answer":"0xFFFFFFF0: User Abort"}}`
	if string(got) != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if n := nodes[3]; n.Manager != "/dev/tpmrm10" || n.Driver != "tpm_crb" || n.PPI != nil || n.HeldBy != nil ||
		len(n.UsedBy) != 1 || n.UsedBy[0] != (Process{78, "sleep"}) {
		t.Errorf("%+v", n)
	}
	s := nodes[0].State()
	if s.Vendor != "IFX" || s.Firmware != "3.17" || s.Enabled == nil || !*s.Enabled || s.Active == nil || *s.Active || s.Owned == nil || *s.Owned {
		t.Errorf("%+v", s)
	}
	if s := *nodes[1].State(); s != (NodeState{}) {
		t.Errorf("%+v", s)
	}
	if s := nodes[2].State(); s.Owned == nil || *s.Owned {
		t.Errorf("%+v", s)
	}
}

func TestKernelNode(t *testing.T) {
	k := fakeKernel(t, laptop)
	for name, want := range map[string]string{
		"/dev/tpm0": "/dev/tpm0", "/dev/tpmrm10": "/dev/tpm10", "/dev/mytpm": "/dev/tpm0",
		"/dev/tpm7": "", "/dev/null": "", "": "", "unix:/dev/tpm0": "", "emulator:/dev/tpm0": "", "emulator2:/dev/tpm0": "", "tcp:localhost:1": "", "tpm0": "",
	} {
		got := ""
		if n := k.Node(name); n != nil {
			got = n.Device
		}
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// A device is known by its number, not by what its path ends in.
func TestKernelNodeByNumber(t *testing.T) {
	k := fakeKernel(t, map[string]string{
		"sys/class/tpm/tpm0/dev": "10:224\n", "sys/class/tpm/tpm1/dev": "251:1\n",
		"sys/class/tpmrm/tpmrm1/dev": "253:65537\n",
	})
	for number, want := range map[string]string{"10:224": "/dev/tpm0", "251:1": "/dev/tpm1", "253:65537": "/dev/tpm1", "10:22": "", "": ""} {
		got := ""
		if n := k.nodeByNumber(number); n != nil {
			got = n.Device
		}
		if got != want {
			t.Errorf("%s: %q, want %q", number, got, want)
		}
	}
	link := filepath.Join(t.TempDir(), "tpm0")
	if err := os.Symlink("/dev/null", link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/dev/null": "1:3", link: "1:3", "/dev/tty": "5:0", k.Root: "", "/nowhere": ""} {
		if got := deviceNumber(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if n := (Kernel{}).Node(link); n != nil {
		t.Errorf("%s is %s", link, n.Device)
	}
}

// What programs and chips write does not reach a terminal.
func TestKernelNamesAreHarmless(t *testing.T) {
	k := fakeKernel(t, map[string]string{
		"sys/class/tpm/tpm0/device/caps": "Manufacturer: 0x491b5d58\n",
		"dev/tpm0":                       "",
		"proc/77/comm":                   "\x1b[2Jé\n\u202e\n",
		"proc/77/fd/3":                   "->/dev/tpm0",
	})
	n := k.Nodes()[0]
	if got := n.HeldBy[0].Name; got != `\x1b[2Jé\n\u202e` {
		t.Errorf("%q", got)
	}
	if got := n.State().Vendor; got != "I]X" {
		t.Errorf("%q", got)
	}
}

func TestWhyNone(t *testing.T) {
	for want, files := range map[string]map[string]string{
		"/dev/tpm0 is missing":      {"sys/class/tpm/tpm0/dev": "10:224"},
		"ACPI table TPM2":           {"sys/firmware/acpi/tables/TPM2": ""},
		"modprobe tpm_tis":          {"sys/firmware/acpi/tables/TCPA": ""},
		"this machine has no TPM":   {},
		"looked for /dev/tpm*, /sy": {"sys/class/tpm/.keep": ""},
	} {
		if got := fakeKernel(t, files).WhyNone(); !strings.Contains(got, want) {
			t.Errorf("%q does not say %q", got, want)
		}
	}
}

func TestPPI(t *testing.T) {
	k := fakeKernel(t, laptop)
	p := k.Nodes()[0].PPI
	if !p.Refused() || p.Pending != 0 || p.Last != RequestEnableActivate || !strings.Contains(p.Restart(), "off and on") {
		t.Errorf("%+v", p)
	}
	asked, err := p.Ask(RequestEnableActivate, RequestEnable)
	if err != nil || asked != RequestEnableActivate || p.Pending != asked || asked.String() != "enable and activate the TPM" {
		t.Errorf("%v, %v", asked, err)
	}
	if again := k.Nodes()[0].PPI; again.Pending != RequestEnableActivate {
		t.Errorf("%+v", again)
	}
	if err := os.Remove(filepath.Join(k.Root, "sys/class/tpm/tpm0/ppi/request")); err != nil {
		t.Fatal(err)
	}
	if asked, err := p.Ask(RequestClear); err == nil || asked != 0 || !strings.Contains(err.Error(), "the firmware takes no request for it (") {
		t.Errorf("%v, %v", asked, err)
	}
	if got := p.Withdrawal(); got != "echo 0 > "+filepath.Join(k.Root, "sys/class/tpm/tpm0/ppi/request") {
		t.Error(got)
	}
	if !RequestEnableClearEnable.Clears() || RequestEnable.Clears() {
		t.Error("which requests clear?")
	}
	if k.Nodes()[2].PPI.Pending != 0 { // of an old kernel, and unreadable
		t.Error("a request where none can be read")
	}
	if got := Request(99).String(); got != "do operation 99" {
		t.Error(got)
	}
}

// Firmware that says yes and does nothing has not been asked.
func TestPPIThatForgets(t *testing.T) {
	k := fakeKernel(t, map[string]string{"sys/class/tpm/tpm0/ppi/request": "->/dev/null"})
	if asked, err := k.Nodes()[0].PPI.Ask(RequestClear, RequestClearEnableActivate); err == nil || !strings.Contains(err.Error(), "was not kept") {
		t.Errorf("%v, %v", asked, err)
	}
}
