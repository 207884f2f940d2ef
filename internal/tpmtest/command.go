package tpmtest

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"maclef/internal/transport/frame"
)

// names12 are names of TPM 1.2 commands. TPM Main Part 2, section 17 (Ordinals).
var names12 = map[uint32]string{
	0x0a: "OIAP", 0x0b: "OSAP", 0x0d: "TakeOwnership", 0x14: "Extend", 0x15: "PCRRead", 0x17: "Seal", 0x18: "Unseal", 0x1e: "UnBind", 0x1f: "CreateWrapKey", 0x21: "GetPubKey",
	0x3c: "Sign", 0x41: "LoadKey2", 0x46: "GetRandom", 0x50: "SelfTestFull", 0x53: "ContinueSelfTest", 0x5b: "OwnerClear",
	0x5d: "ForceClear", 0x65: "GetCapability", 0x70: "PhysicalDisable", 0x99: "Startup", 0xb8: "SaveContext", 0xb9: "LoadContext",
	0xba: "FlushSpecific",
}

// A command20 is a command of TPM 2.0: its name, and how many handles its parameters begin
// with.
type command20 struct {
	name    string
	handles int
}

// commands20 are commands of TPM 2.0, by command code. TPM 2.0 Library Part 2, section
// 6.5.2 (TPM_CC), and Part 3.
var commands20 = map[uint32]command20{
	0x120: {"EvictControl", 2}, 0x121: {"HierarchyControl", 1}, 0x126: {"Clear", 1}, 0x127: {"ClearControl", 1},
	0x129: {"HierarchyChangeAuth", 1}, 0x131: {"CreatePrimary", 1}, 0x139: {"DictionaryAttackLockReset", 1},
	0x13a: {"DictionaryAttackParameters", 1}, 0x13d: {"PCR_Reset", 1}, 0x143: {"SelfTest", 0}, 0x144: {"Startup", 0},
	0x145: {"Shutdown", 0}, 0x150: {"ObjectChangeAuth", 2}, 0x151: {"PolicySecret", 2}, 0x153: {"Create", 1},
	0x154: {"ECDH_ZGen", 1}, 0x156: {"Import", 1}, 0x157: {"Load", 1}, 0x159: {"RSA_Decrypt", 1}, 0x15d: {"Sign", 1},
	0x15e: {"Unseal", 1}, 0x160: {"PolicySigned", 2}, 0x161: {"ContextLoad", 0}, 0x162: {"ContextSave", 1}, 0x165: {"FlushContext", 0},
	0x167: {"LoadExternal", 0}, 0x16a: {"PolicyAuthorize", 1}, 0x16b: {"PolicyAuthValue", 1}, 0x16c: {"PolicyCommandCode", 1},
	0x171: {"PolicyOR", 1}, 0x173: {"ReadPublic", 1}, 0x174: {"RSA_Encrypt", 1}, 0x176: {"StartAuthSession", 2},
	0x177: {"VerifySignature", 1}, 0x178: {"ECC_Parameters", 0}, 0x17a: {"GetCapability", 0}, 0x17b: {"GetRandom", 0},
	0x17c: {"GetTestResult", 0}, 0x17e: {"PCR_Read", 0}, 0x17f: {"PolicyPCR", 1}, 0x180: {"PolicyRestart", 1},
	0x13e: {"SequenceComplete", 1}, 0x15c: {"SequenceUpdate", 1}, 0x17d: {"Hash", 0}, 0x181: {"ReadClock", 0}, 0x186: {"HashSequenceStart", 0},
	0x182: {"PCR_Extend", 1}, 0x189: {"PolicyGetDigest", 1}, 0x18a: {"TestParms", 0}, 0x18c: {"PolicyPassword", 1},
	0x191: {"CreateLoaded", 1},
}

// Is20 reports whether a command or a response has the format of TPM 2.0.
func Is20(message []byte) bool { return len(message) > 0 && message[0] == 0x80 }

// shortName returns a command's name without "TPM_" or "TPM2_"; empty if unknown.
func shortName(cmd []byte) string {
	if Is20(cmd) {
		return commands20[frame.Code(cmd)].name
	}
	return names12[frame.Code(cmd)]
}

// CommandName returns the specification's name of a command: "TPM_LoadKey2", "TPM2_Load".
func CommandName(cmd []byte) string {
	prefix := "TPM_"
	if Is20(cmd) {
		prefix = "TPM2_"
	}
	if name := shortName(cmd); name != "" {
		return prefix + name
	}
	return fmt.Sprintf("%s%#x", prefix, frame.Code(cmd))
}

// IsCommand reports whether a command has this name, without "TPM_" or "TPM2_".
func IsCommand(cmd []byte, name string) bool { return name != "" && shortName(cmd) == name }

// KnowsCommand reports whether one of the generations has a command of this name.
func KnowsCommand(name string) bool {
	return slices.Contains(slices.Collect(maps.Values(names12)), name) ||
		slices.ContainsFunc(slices.Collect(maps.Values(commands20)), func(known command20) bool { return known.name == name })
}

// Parts20 returns the handles of a TPM 2.0 command and the sessions of its authorization
// area. TPM 2.0 Library Part 1, section on the command structure. It returns none for an
// unknown or malformed command.
func Parts20(cmd []byte) (handles, sessions []uint32) {
	if !Is20(cmd) || len(cmd) < frame.HeaderSize {
		return nil, nil
	}
	rest := cmd[frame.HeaderSize:]
	take := func() uint32 {
		v := binary.BigEndian.Uint32(rest)
		rest = rest[4:]
		return v
	}
	for range commands20[frame.Code(cmd)].handles {
		if len(rest) < 4 {
			return nil, nil
		}
		handles = append(handles, take())
	}
	if cmd[1] != 0x02 || len(rest) < 4 {
		return handles, nil
	}
	if size := int(take()); size <= len(rest) {
		rest = rest[:size]
	}
	for len(rest) >= 4 { // handle, nonce, attributes, HMAC
		sessions = append(sessions, take())
		for _, fixed := range []int{1, 0} {
			if len(rest) < 2 || len(rest) < 2+int(binary.BigEndian.Uint16(rest))+fixed {
				return handles, sessions
			}
			rest = rest[2+int(binary.BigEndian.Uint16(rest))+fixed:]
		}
	}
	return handles, sessions
}
