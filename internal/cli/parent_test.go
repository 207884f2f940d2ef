package cli

import "testing"

func TestParentFlag(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]uint32{
		"owner": 0x40000001, "endorsement": 0x4000000b, "platform": 0x4000000c, "null": 0x40000007,
		"0x81000001": 0x81000001, "2164260865": 0x81000001, "handle:0x81000001": 0x81000001, "0x40000001": 0x40000001,
	} {
		var f ParentFlag
		if err := f.Set(text); err != nil || f.Handle != want {
			t.Errorf("%s: %#x, %v", text, f.Handle, err)
		}
	}
	for _, text := range []string{"", "0", "srk", "0x80000001", "0x181000001", "81000001", "-1", "Owner"} {
		if err := new(ParentFlag).Set(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}
