package relay

import "testing"

// command is a bare command of TPM 2.0, with the last bytes of its tag and its code.
func command(tag, code byte) []byte { return []byte{0x80, tag, 0, 0, 0, 10, 0, 0, 1, code} }

func TestCommandNames(t *testing.T) {
	for want, cmd := range map[string][]byte{
		"TPM2_GetRandom": command(1, 0x7B), "TPM_GetCapability": []byte{0, 0xC1, 0, 0, 0, 10, 0, 0, 0, 0x65}, "TPM2_0x199": command(1, 0x99), "TPM_0x0": nil,
	} {
		if got := CommandName(cmd); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	sign := command(2, 0x5D)
	if !IsCommand(sign, "Sign") || IsCommand(sign, "UnBind") || IsCommand([]byte{0, 0xC2, 0, 0, 0, 10, 0, 0, 1, 0x5D}, "Sign") {
		t.Error("which one is Sign?")
	}
	if !KnowsCommand("LoadKey2") || !KnowsCommand("RSA_Decrypt") || KnowsCommand("Nonsense") || KnowsCommand("") {
		t.Error("which ones are known?")
	}
}
