package tpmtest

import "testing"

func TestCommandNames(t *testing.T) {
	t.Parallel()
	for want, cmd := range map[string][]byte{
		"TPM2_GetRandom": command(0x8001, 0x17B, nil), "TPM_GetCapability": []byte{0, 0xC1, 0, 0, 0, 10, 0, 0, 0, 0x65}, "TPM2_0x199": command(0x8001, 0x199, nil), "TPM_0x0": nil,
	} {
		if got := CommandName(cmd); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	sign := command(0x8002, 0x15D, nil)
	if !IsCommand(sign, "Sign") || IsCommand(sign, "UnBind") || IsCommand([]byte{0, 0xC2, 0, 0, 0, 10, 0, 0, 1, 0x5D}, "Sign") {
		t.Error("which one is Sign?")
	}
	if !KnowsCommand("LoadKey2") || !KnowsCommand("RSA_Decrypt") || KnowsCommand("Nonsense") || KnowsCommand("") {
		t.Error("which ones are known?")
	}
}
