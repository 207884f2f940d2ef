package transport

// A Claim says that a process has loaded something into a TPM and may still
// need it.
type Claim struct {
	Kind   byte // ClaimKey, ClaimSession
	Handle uint32
	Own    bool // of the Device that was asked
	// PID is what the process said of itself. It can be a number of another PID
	// namespace, or a lie; that some process lives and claims this is certain.
	PID     int
	Program string // what /proc calls PID, without control characters; empty if unknown
}
