package tpm12

import "fmt"

// A ResultCode is the TPM's result code for a command that it refused. TPM Main Part 2, section
// 16 (Return codes).
type ResultCode uint32

// Result codes that this project handles.
const (
	Success           ResultCode = 0x00  // TPM_SUCCESS, not an error
	AuthFail          ResultCode = 0x01  // TPM_AUTHFAIL
	BadIndex          ResultCode = 0x02  // TPM_BADINDEX
	BadParameter      ResultCode = 0x03  // TPM_BAD_PARAMETER
	ClearDisabled     ResultCode = 0x05  // TPM_CLEAR_DISABLED
	Deactivated       ResultCode = 0x06  // TPM_DEACTIVATED
	Disabled          ResultCode = 0x07  // TPM_DISABLED
	DisabledCmd       ResultCode = 0x08  // TPM_DISABLED_CMD
	Fail              ResultCode = 0x09  // TPM_FAIL
	BadOrdinal        ResultCode = 0x0a  // TPM_BAD_ORDINAL
	InstallDisabled   ResultCode = 0x0b  // TPM_INSTALL_DISABLED
	InvalidKeyHandle  ResultCode = 0x0c  // TPM_INVALID_KEYHANDLE
	KeyNotFound       ResultCode = 0x0d  // TPM_KEYNOTFOUND
	InvalidPCRInfo    ResultCode = 0x10  // TPM_INVALID_PCR_INFO
	NoSpace           ResultCode = 0x11  // TPM_NOSPACE
	NoSRK             ResultCode = 0x12  // TPM_NOSRK
	NotSealedBlob     ResultCode = 0x13  // TPM_NOTSEALED_BLOB
	OwnerSet          ResultCode = 0x14  // TPM_OWNER_SET
	Resources         ResultCode = 0x15  // TPM_RESOURCES
	Size              ResultCode = 0x17  // TPM_SIZE
	WrongPCRValue     ResultCode = 0x18  // TPM_WRONGPCRVAL
	BadParamSize      ResultCode = 0x19  // TPM_BAD_PARAM_SIZE
	FailedSelfTest    ResultCode = 0x1c  // TPM_FAILEDSELFTEST
	Auth2Fail         ResultCode = 0x1d  // TPM_AUTH2FAIL
	BadTag            ResultCode = 0x1e  // TPM_BADTAG
	IOError           ResultCode = 0x1f  // TPM_IOERROR
	DecryptError      ResultCode = 0x21  // TPM_DECRYPT_ERROR
	InvalidAuthHandle ResultCode = 0x22  // TPM_INVALID_AUTHHANDLE
	NoEndorsement     ResultCode = 0x23  // TPM_NO_ENDORSEMENT
	InvalidKeyUsage   ResultCode = 0x24  // TPM_INVALID_KEYUSAGE
	InvalidPostInit   ResultCode = 0x26  // TPM_INVALID_POSTINIT
	InappropriateSig  ResultCode = 0x27  // TPM_INAPPROPRIATE_SIG
	BadKeyProperty    ResultCode = 0x28  // TPM_BAD_KEY_PROPERTY
	BadScheme         ResultCode = 0x2a  // TPM_BAD_SCHEME
	BadDataSize       ResultCode = 0x2b  // TPM_BAD_DATASIZE
	BadMode           ResultCode = 0x2c  // TPM_BAD_MODE
	BadPresence       ResultCode = 0x2d  // TPM_BAD_PRESENCE
	BadVersion        ResultCode = 0x2e  // TPM_BAD_VERSION
	AuditFailDone     ResultCode = 0x31  // TPM_AUDITFAIL_SUCCESSFUL
	InvalidResource   ResultCode = 0x35  // TPM_INVALID_RESOURCE
	NotFIPS           ResultCode = 0x36  // TPM_NOTFIPS
	KeyNotSupported   ResultCode = 0x3a  // TPM_KEY_NOTSUPPORTED
	AuthConflict      ResultCode = 0x3b  // TPM_AUTH_CONFLICT
	AreaLocked        ResultCode = 0x3c  // TPM_AREA_LOCKED
	BadLocality       ResultCode = 0x3d  // TPM_BAD_LOCALITY
	InvalidStructure  ResultCode = 0x43  // TPM_INVALID_STRUCTURE
	KeyOwnerControl   ResultCode = 0x44  // TPM_KEY_OWNER_CONTROL
	ContextGap        ResultCode = 0x47  // TPM_CONTEXT_GAP
	MaxNVWrites       ResultCode = 0x48  // TPM_MAXNVWRITES
	OwnerControl      ResultCode = 0x4f  // TPM_OWNER_CONTROL
	BadContext        ResultCode = 0x5a  // TPM_BADCONTEXT
	TooManyContexts   ResultCode = 0x5b  // TPM_TOOMANYCONTEXTS
	NoContextSpace    ResultCode = 0x63  // TPM_NOCONTEXTSPACE
	Retry             ResultCode = 0x800 // TPM_RETRY
	NeedsSelfTest     ResultCode = 0x801 // TPM_NEEDS_SELFTEST
	DoingSelfTest     ResultCode = 0x802 // TPM_DOING_SELFTEST
	DefendLockRunning ResultCode = 0x803 // TPM_DEFEND_LOCK_RUNNING
)

// Name returns the code's name in the specification, or "" if it has none.
func (c ResultCode) Name() string { return resultNames[c] }

// Error returns the code's name in the specification and its number.
func (c ResultCode) Error() string {
	name := c.Name()
	switch {
	case name != "":
		return fmt.Sprintf("%s (%#x)", name, uint32(c))
	case c&vendorCode != 0:
		return fmt.Sprintf("vendor-specific TPM error %#x", uint32(c))
	}
	return fmt.Sprintf("unknown TPM error %#x", uint32(c))
}

// vendorCode is TPM_VENDOR_ERROR, the bit of codes that only the maker knows.
const vendorCode = 0x400

// resultNames are the names of TPM Main Part 2, section 16.
var resultNames = map[ResultCode]string{
	0x000: "TPM_SUCCESS", 0x001: "TPM_AUTHFAIL", 0x002: "TPM_BADINDEX", 0x003: "TPM_BAD_PARAMETER",
	0x004: "TPM_AUDITFAILURE", 0x005: "TPM_CLEAR_DISABLED", 0x006: "TPM_DEACTIVATED", 0x007: "TPM_DISABLED",
	0x008: "TPM_DISABLED_CMD", 0x009: "TPM_FAIL", 0x00a: "TPM_BAD_ORDINAL", 0x00b: "TPM_INSTALL_DISABLED",
	0x00c: "TPM_INVALID_KEYHANDLE", 0x00d: "TPM_KEYNOTFOUND", 0x00e: "TPM_INAPPROPRIATE_ENC",
	0x00f: "TPM_MIGRATEFAIL", 0x010: "TPM_INVALID_PCR_INFO", 0x011: "TPM_NOSPACE", 0x012: "TPM_NOSRK",
	0x013: "TPM_NOTSEALED_BLOB", 0x014: "TPM_OWNER_SET", 0x015: "TPM_RESOURCES", 0x016: "TPM_SHORTRANDOM",
	0x017: "TPM_SIZE", 0x018: "TPM_WRONGPCRVAL", 0x019: "TPM_BAD_PARAM_SIZE", 0x01a: "TPM_SHA_THREAD",
	0x01b: "TPM_SHA_ERROR", 0x01c: "TPM_FAILEDSELFTEST", 0x01d: "TPM_AUTH2FAIL", 0x01e: "TPM_BADTAG",
	0x01f: "TPM_IOERROR", 0x020: "TPM_ENCRYPT_ERROR", 0x021: "TPM_DECRYPT_ERROR", 0x022: "TPM_INVALID_AUTHHANDLE",
	0x023: "TPM_NO_ENDORSEMENT", 0x024: "TPM_INVALID_KEYUSAGE", 0x025: "TPM_WRONG_ENTITYTYPE",
	0x026: "TPM_INVALID_POSTINIT", 0x027: "TPM_INAPPROPRIATE_SIG", 0x028: "TPM_BAD_KEY_PROPERTY",
	0x029: "TPM_BAD_MIGRATION", 0x02a: "TPM_BAD_SCHEME", 0x02b: "TPM_BAD_DATASIZE", 0x02c: "TPM_BAD_MODE",
	0x02d: "TPM_BAD_PRESENCE", 0x02e: "TPM_BAD_VERSION", 0x02f: "TPM_NO_WRAP_TRANSPORT",
	0x030: "TPM_AUDITFAIL_UNSUCCESSFUL", 0x031: "TPM_AUDITFAIL_SUCCESSFUL", 0x032: "TPM_NOTRESETABLE",
	0x033: "TPM_NOTLOCAL", 0x034: "TPM_BAD_TYPE", 0x035: "TPM_INVALID_RESOURCE", 0x036: "TPM_NOTFIPS",
	0x037: "TPM_INVALID_FAMILY", 0x038: "TPM_NO_NV_PERMISSION", 0x039: "TPM_REQUIRES_SIGN",
	0x03a: "TPM_KEY_NOTSUPPORTED", 0x03b: "TPM_AUTH_CONFLICT", 0x03c: "TPM_AREA_LOCKED",
	0x03d: "TPM_BAD_LOCALITY", 0x03e: "TPM_READ_ONLY", 0x03f: "TPM_PER_NOWRITE", 0x040: "TPM_FAMILYCOUNT",
	0x041: "TPM_WRITE_LOCKED", 0x042: "TPM_BAD_ATTRIBUTES", 0x043: "TPM_INVALID_STRUCTURE",
	0x044: "TPM_KEY_OWNER_CONTROL", 0x045: "TPM_BAD_COUNTER", 0x046: "TPM_NOT_FULLWRITE",
	0x047: "TPM_CONTEXT_GAP", 0x048: "TPM_MAXNVWRITES", 0x049: "TPM_NOOPERATOR", 0x04a: "TPM_RESOURCEMISSING",
	0x04b: "TPM_DELEGATE_LOCK", 0x04c: "TPM_DELEGATE_FAMILY", 0x04d: "TPM_DELEGATE_ADMIN",
	0x04e: "TPM_TRANSPORT_NOTEXCLUSIVE", 0x04f: "TPM_OWNER_CONTROL", 0x050: "TPM_DAA_RESOURCES",
	0x051: "TPM_DAA_INPUT_DATA0", 0x052: "TPM_DAA_INPUT_DATA1", 0x053: "TPM_DAA_ISSUER_SETTINGS",
	0x054: "TPM_DAA_TPM_SETTINGS", 0x055: "TPM_DAA_STAGE", 0x056: "TPM_DAA_ISSUER_VALIDITY",
	0x057: "TPM_DAA_WRONG_W", 0x058: "TPM_BAD_HANDLE", 0x059: "TPM_BAD_DELEGATE", 0x05a: "TPM_BADCONTEXT",
	0x05b: "TPM_TOOMANYCONTEXTS", 0x05c: "TPM_MA_TICKET_SIGNATURE", 0x05d: "TPM_MA_DESTINATION",
	0x05e: "TPM_MA_SOURCE", 0x05f: "TPM_MA_AUTHORITY", 0x061: "TPM_PERMANENTEK", 0x062: "TPM_BAD_SIGNATURE",
	0x063: "TPM_NOCONTEXTSPACE", 0x800: "TPM_RETRY", 0x801: "TPM_NEEDS_SELFTEST", 0x802: "TPM_DOING_SELFTEST",
	0x803: "TPM_DEFEND_LOCK_RUNNING",
}

// ResultCodes returns all codes that have a name, in no order.
func ResultCodes() []uint32 {
	codes := make([]uint32, 0, len(resultNames))
	for c := range resultNames {
		codes = append(codes, uint32(c))
	}
	return codes
}
