package tpmtest

import (
	"os/exec"
	"regexp"
	"strconv"
	"sync"
)

// ImplicitRejection reports whether the software TPM decrypts a PKCS#1 v1.5 ciphertext with
// wrong padding to random bytes, and reports success: it does on OpenSSL 3.2 and later.
var ImplicitRejection = sync.OnceValue(func() bool {
	out, err := exec.Command("openssl", "version").Output()
	m := regexp.MustCompile(`^OpenSSL (\d+)\.(\d+)`).FindSubmatch(out)
	if err != nil || m == nil {
		return false
	}
	major, _ := strconv.Atoi(string(m[1]))
	minor, _ := strconv.Atoi(string(m[2]))
	return major > 3 || major == 3 && minor >= 2
})
