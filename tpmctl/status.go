package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"maclef/internal/cli"
	"maclef/tpmkey"
)

func status(env *cli.Env, fs *cli.FlagSet, args []string) error {
	fs.Example = "tpmctl status"
	name := fs.TPM()
	if _, err := fs.Parse(args); err != nil {
		return err
	}
	return env.WithTPM(*name, func(tpm *tpmkey.TPM) error {
		s, err := tpm.Status()
		if err != nil {
			return err
		}
		return printRows(env.Stdout, statusRows(s))
	})
}

// A row is a line of a table: what, and how it is.
type row struct{ what, how string }

func printRows(w io.Writer, rows []row) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(t, "%s:\t%s\n", r.what, r.how)
	}
	return t.Flush()
}

func statusRows(s *tpmkey.Status) []row {
	rows := []row{{"device", s.Name}, {"family", "TPM " + s.Family}}
	if s.Family != "1.2" {
		return append(rows, row{"usable", "no: only TPM 1.2 can be used so far"})
	}
	return append(rows,
		row{"vendor", vendorName(s.Vendor)},
		row{"firmware", s.Firmware},
		row{"specification", fmt.Sprintf("1.2, level %d, errata %d", s.SpecLevel, s.ErrataRev)},
		row{"enabled", orCure(s.Enabled, "enable it in the firmware's (BIOS) menu")},
		row{"active", orCure(s.Active, "activate it in the firmware's (BIOS) menu, and restart")},
		row{"owned", orCure(s.Owned, "take ownership: tpmctl own")},
		row{"lockout", lockoutText(s.Lockout)},
		row{"key slots", fmt.Sprintf("%d of %d free", s.FreeKeys, s.MaxKeys)},
	)
}

// orCure is yes, or no and what to do about it.
func orCure(ok bool, cure string) string {
	if ok {
		return "yes"
	}
	return "no: " + cure
}

func lockoutText(l *tpmkey.Lockout) string {
	switch {
	case l == nil:
		return "unknown: this TPM does not tell"
	case l.Locked && l.Known:
		return fmt.Sprintf("locked: %d wrong secrets; the lock lasts %v from the last one", l.Tries, l.Duration)
	case l.Locked:
		return "locked after too many wrong secrets"
	case l.Known && l.Tries > l.Threshold:
		return fmt.Sprintf("no (all %d tries are used: the next wrong secret can lock it)", l.Threshold)
	case l.Known:
		return fmt.Sprintf("no (%d of %d tries used)", l.Tries, l.Threshold)
	}
	return "no"
}

// vendors are the names of TCG's vendor ID registry that made TPM 1.2.
var vendors = map[string]string{
	"AMD":  "AMD",
	"ATML": "Atmel",
	"BRCM": "Broadcom",
	"IBM":  "IBM (or its software TPM: swtpm, libtpms)",
	"IFX":  "Infineon",
	"INTC": "Intel",
	"LEN":  "Lenovo",
	"NSM":  "National Semiconductor",
	"NTC":  "Nuvoton",
	"NTZ":  "Nationz",
	"SMSC": "SMSC",
	"SNS":  "Sinosun",
	"STM":  "STMicroelectronics",
	"TXN":  "Texas Instruments",
	"WEC":  "Winbond",
}

func vendorName(id string) string {
	if name, ok := vendors[strings.ToUpper(id)]; ok {
		return id + ", " + name
	}
	return id
}
