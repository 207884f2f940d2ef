package blob

import "crypto"

// CheckWrapTSS2 returns why [WrapTSS2] cannot make a key file of priv, as far as that
// does not depend on the parent.
func CheckWrapTSS2(priv crypto.PrivateKey) error {
	_, sensitive, err := splitPrivate(priv)
	if err == nil {
		clearSensitive(sensitive)
	}
	return err
}
