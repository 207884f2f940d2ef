package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"maclef/internal/transport"
)

// What the kernel, programs and chips wrote does not reach the terminal raw; JSON
// means the same.
func TestStatusIsHarmless(t *testing.T) {
	const evil = "a\x1b[2J\u009b\u202e\x07\U000e0001\x7fé"
	r := &report{
		Name: evil, Family: "1.2", Vendor: evil, VendorName: evil, Model: evil, Firmware: evil, Error: evil,
		Kernel: &transport.Node{
			Device: evil, Manager: evil, Driver: evil, ID: evil, Description: evil,
			HeldBy: []transport.Process{{PID: 1, Name: evil}}, PPI: &transport.PPI{Last: 5, Answer: evil},
		},
		Others: []*transport.Node{{Device: evil, Driver: evil}},
	}
	var text, object bytes.Buffer
	if err := printRows(&text, r.rows()); err != nil {
		t.Fatal(err)
	}
	if err := printJSON(&object, r); err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{text.String(), object.String()} {
		if strings.ContainsAny(out, "\x1b\u009b\u202e\x07\x7f\U000e0001") || !strings.Contains(out, "é") {
			t.Errorf("%q", out)
		}
	}
	var back report
	if err := json.Unmarshal(object.Bytes(), &back); err != nil || back.Model != evil || back.Kernel.Driver != evil {
		t.Errorf("%q, %v", back.Model, err)
	}
}
