package chip20

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"maclef/internal/chip"
	"maclef/internal/policy"
	"maclef/internal/tpm20"
	"math/big"
	"strings"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// A signPlan is the command that creates a signature, and the way to process its result.
type signPlan struct {
	area   []byte             // the bytes to sign
	raw    bool               // TPM2_RSA_Decrypt of a padded block, without a scheme; else TPM2_Sign
	scheme tpm2.TPMTSigScheme // for TPM2_Sign
	size   int                // size of an RSA signature
	verify func(signature []byte) error

	// hash is set for a restricted key: the TPM must hash the message with it first.
	hash    tpm2.TPMIAlgHash
	message []byte

	unsure bool // only trying shows whether the TPM can create this signature
}

// signRaw returns the plan to sign a padded block with TPM2_RSA_Decrypt.
func (k *keyOps) signRaw(block []byte) *signPlan {
	return &signPlan{
		area: block, raw: true, size: k.rsa.Size(),
		verify: func(sig []byte) error { return chip.VerifyBlock(k.rsa, block, sig) },
	}
}

// signTPM returns the plan to sign with TPM2_Sign. The caller sets verify.
func (k *keyOps) signTPM(scheme, hash tpm2.TPMAlgID, digest []byte) *signPlan {
	plan := &signPlan{area: digest, scheme: tpm2.TPMTSigScheme{
		Scheme:  scheme,
		Details: tpm2.NewTPMUSigScheme(scheme, &tpm2.TPMSSchemeHash{HashAlg: hash}),
	}}
	if k.rsa != nil {
		plan.size = k.rsa.Size()
	}
	return plan
}

// finishRaw converts the result of TPM2_RSA_Decrypt to a signature.
func (p *signPlan) finishRaw(message []byte) ([]byte, error) {
	sig, ok := padded(message, p.size)
	if !ok {
		return nil, chip.ErrBadSignature
	}
	return sig, nil
}

// finish converts the result of TPM2_Sign to a signature.
func (p *signPlan) finish(answer *tpm2.TPMTSignature) ([]byte, error) {
	if answer.SigAlg != p.scheme.Scheme {
		return nil, chip.ErrBadSignature
	}
	if s, err := answer.Signature.ECDSA(); err == nil {
		return ecdsaDER(s.SignatureR.Buffer, s.SignatureS.Buffer)
	}
	s, err := answer.Signature.RSASSA()
	if err != nil {
		s, err = answer.Signature.RSAPSS()
	}
	if err != nil {
		return nil, chip.ErrBadSignature
	}
	return p.finishRaw(s.Sig.Buffer)
}

// sign returns the operation for the arguments of crypto.Signer.
func (k *keyOps) sign(digest []byte, opts crypto.SignerOpts) (*chip.Operation, error) {
	plan, err := k.planSign(digest, opts)
	if err != nil {
		return nil, err
	}
	return plan.operation(), nil
}

// signMessage returns the operation for the arguments of crypto.MessageSigner.
func (k *keyOps) signMessage(message []byte, opts crypto.SignerOpts) (*chip.Operation, error) {
	digest, err := chip.Digest(message, opts)
	if err != nil {
		return nil, err
	}
	if a := k.area.ObjectAttributes; !a.Restricted || !a.SignEncrypt {
		return k.sign(digest, opts)
	}
	plan, err := k.planRestricted(message, digest, opts)
	if err != nil {
		return nil, err
	}
	return plan.operation(), nil
}

func (p *signPlan) operation() *chip.Operation {
	return &chip.Operation{
		Run: func(in chip.LoadedKey, key chip.AuthData) ([]byte, error) {
			return in.(*loadedKey).sign(p, key)
		},
		Verify: p.verify, Unsure: p.unsure,
	}
}

// planRestricted returns the plan for a restricted key. It signs what the TPM itself has made, and
// messages that the TPM has hashed, unless they look as if the TPM had made them. TPM 2.0 Library
// Part 3, section 20.2 (TPM2_Sign).
func (k *keyOps) planRestricted(message, digest []byte, opts crypto.SignerOpts) (*signPlan, error) {
	plan, err := k.planOptions(digest, opts)
	if err != nil {
		return nil, err
	}
	hash := opts.HashFunc()
	switch {
	case hash == 0 || algOf(hash) != k.scheme.hash: // ECDSA signs digests of other hashes, too
		return nil, k.cannotSign(algName(k.scheme.alg), hash)
	case bytes.HasPrefix(message, []byte(tpm20.GeneratedValue)):
		return nil, fmt.Errorf("%w: the message begins with ff 54 43 47 (TPM_GENERATED_VALUE), like the TPM's own attestations, "+
			"and a restricted key signs no such message of a program", chip.ErrNotSupported)
	}
	plan.area, plan.hash, plan.message = digest, k.scheme.hash, message
	return plan, nil
}

// planSign returns the plan. A key that decrypts without a scheme can sign, too, even if it does
// not have the attribute sign.
func (k *keyOps) planSign(digest []byte, opts crypto.SignerOpts) (*signPlan, error) {
	switch a := k.area.ObjectAttributes; {
	case a.Restricted && a.Decrypt:
		return nil, k.cannotDecrypt("sign")
	case a.Restricted && a.SignEncrypt:
		return nil, fmt.Errorf("%w: a restricted key signs messages that its TPM hashes, and no digests: sign the message with SignMessage, as crypto/x509 and crypto/tls do from Go 1.25 on", chip.ErrNotSupported)
	case !a.SignEncrypt && !k.decryptsRaw():
		return nil, fmt.Errorf("%w: this key cannot sign: it was made without the attribute sign", chip.ErrNotSupported)
	case len(digest) == 0:
		return nil, errors.New("nothing to sign: the digest is empty")
	}
	return k.planOptions(digest, opts)
}

// planOptions returns the plan for a key that may sign.
func (k *keyOps) planOptions(digest []byte, opts crypto.SignerOpts) (*signPlan, error) {
	switch o := opts.(type) {
	case nil:
		return nil, fmt.Errorf("%w: signing needs options: the hash, such as crypto.SHA256, or crypto.Hash(0) for bytes as they are", chip.ErrNotSupported)
	case crypto.Hash:
		if k.ecdsa != nil {
			return k.signECDSA(o, digest)
		}
		return k.signPKCS1(o, digest)
	case *rsa.PSSOptions:
		switch {
		case o == nil:
			return nil, fmt.Errorf("%w: the options are a nil pointer", chip.ErrNotSupported)
		case k.ecdsa != nil:
			return nil, fmt.Errorf("%w: RSA-PSS is for RSA keys, and this is an EC key", chip.ErrNotSupported)
		}
		return k.signPSS(digest, o)
	}
	return nil, fmt.Errorf("%w: signing options of type %T; give a crypto.Hash, or *rsa.PSSOptions for an RSA key", chip.ErrNotSupported, opts)
}

// checkDigest returns an error for an unknown hash, or a digest of the wrong length.
func checkDigest(hash crypto.Hash, digest []byte) error {
	switch {
	case hash == 0:
		return nil
	case hash > crypto.BLAKE2b_512:
		return fmt.Errorf("%w: %s", chip.ErrNotSupported, hash)
	case len(digest) != hash.Size():
		return fmt.Errorf("a %s digest has %d bytes, this one %d: hash the message first", hash, hash.Size(), len(digest))
	}
	return nil
}

// signPKCS1 returns the plan of a PKCS#1 v1.5 signature. It uses TPM2_Sign with the hashes that
// every TPM signs; otherwise pads in software, if the key decrypts; otherwise uses TPM2_Sign, if
// the TPM has the hash. Some TPMs have SHA-1, but refuse to sign with it.
func (k *keyOps) signPKCS1(hash crypto.Hash, digest []byte) (*signPlan, error) {
	info, err := chip.DigestInfo(hash, digest)
	if err != nil {
		return nil, err
	}
	size := k.rsa.Size()
	if len(info) > size-11 {
		return nil, fmt.Errorf("%w: a %d-bit key has room for %d bytes, and signing %s takes %d", chip.ErrNotSupported, k.rsa.N.BitLen(), size-11, chip.HashName(hash), len(info))
	}
	alg, digest := hashIn(info)
	byTPM := k.tpmSigns(tpm2.TPMAlgRSASSA, alg)
	usual := alg == tpm2.TPMAlgSHA256 || alg == tpm2.TPMAlgSHA384 || alg == tpm2.TPMAlgSHA512
	switch {
	case k.decryptsRaw() && !(byTPM && usual):
		return k.signRaw(chip.EMSAPKCS1(size, info)), nil
	case !byTPM:
		return nil, k.cannotSign("PKCS#1 v1.5", hash)
	}
	s := k.signTPM(tpm2.TPMAlgRSASSA, alg, digest)
	s.verify = func(sig []byte) error { return chip.VerifyPKCS1v15(k.rsa, info, sig) }
	return s, nil
}

// hashIn returns the digest in a DigestInfo and the TPM's identifier of its hash, 0 if info is
// not a DigestInfo or has another hash.
func hashIn(info []byte) (tpm2.TPMAlgID, []byte) {
	for _, h := range hashes {
		if digest, ok := bytes.CutPrefix(info, []byte(chip.DigestInfoPrefix[h.hash])); ok && len(digest) == h.hash.Size() {
			return h.alg, digest
		}
	}
	return 0, nil
}

// cannotSign returns why a signature is impossible, and which signatures are possible.
func (k *keyOps) cannotSign(kind string, hash crypto.Hash) error {
	asked := kind + " with " + chip.HashName(hash)
	switch {
	case k.scheme.alg != tpm2.TPMAlgNull:
		return fmt.Errorf("%w: %s: this key is limited to %v", chip.ErrKeyLimits, asked, k.scheme)
	case !k.may(tpm2.TPMCCSign):
		return k.errNotAllowed(asked+" (TPM2_Sign)", tpm2.TPMCCSign)
	case k.area.ObjectAttributes.X509Sign:
		return fmt.Errorf("%w: %s: this key signs certificates made by the TPM only (attribute x509sign)", chip.ErrNotSupported, asked)
	case k.rsa == nil:
		return fmt.Errorf("%w: %s: this TPM has %s", chip.ErrNotSupported, asked, k.hashNames(tpm2.TPMAlgECDSA))
	}
	return fmt.Errorf("%w: %s: for a key that may not decrypt, this TPM signs RSASSA with %s, RSAPSS with %s; with one that may, every hash can be signed",
		chip.ErrKeyLimits, asked, k.hashNames(tpm2.TPMAlgRSASSA), k.hashNames(tpm2.TPMAlgRSAPSS))
}

// errNotAllowed returns the error for a command that the policy forbids or the TPM does not have.
func (k *keyOps) errNotAllowed(what string, command tpm2.TPMCC) error {
	if !policy.Allows(k.file.Policy, command) {
		return fmt.Errorf("%w: %s: the key's policy allows another command only", chip.ErrNotSupported, what)
	}
	return fmt.Errorf("%w: %s: this TPM does not have the command", chip.ErrNotSupported, what)
}

// hashNames returns the hashes that TPM2_Sign with the key accepts for a scheme, as text.
func (k *keyOps) hashNames(scheme tpm2.TPMAlgID) string {
	if names := k.hashes(scheme); len(names) > 0 {
		return strings.Join(names, ", ")
	}
	return "no hash"
}

// padded returns number with leading zeros, size bytes in total. ok is false if number is longer.
func padded(number []byte, size int) (out []byte, ok bool) {
	for len(number) > size && number[0] == 0 {
		number = number[1:]
	}
	if len(number) > size {
		return nil, false
	}
	out = make([]byte, size)
	copy(out[size-len(number):], number)
	return out, true
}

// signECDSA signs a digest of any hash, or of none. ECDSA signs an integer, the leftmost bits of
// the digest. So any hash of the TPM can stand for one that the TPM does not have, if the integer
// fits. FIPS 186-5, section 6.4.1; TPM 2.0 Library Part 1, annex C.8 (EC Signing).
func (k *keyOps) signECDSA(hash crypto.Hash, digest []byte) (*signPlan, error) {
	if err := checkDigest(hash, digest); err != nil {
		return nil, err
	}
	order := k.ecdsa.Params().N.BitLen()
	for _, h := range ecdsaHashes {
		if !k.tpmSigns(tpm2.TPMAlgECDSA, algOf(h)) {
			continue
		}
		area, ok := ecdsaDigest(digest, order, h.Size())
		if !ok {
			continue
		}
		s := k.signTPM(tpm2.TPMAlgECDSA, algOf(h), area)
		s.verify = func(sig []byte) error {
			if !ecdsa.VerifyASN1(k.ecdsa, digest, sig) {
				return chip.ErrBadSignature
			}
			return nil
		}
		return s, nil
	}
	if len(k.hashes(tpm2.TPMAlgECDSA)) > 0 && k.scheme.alg == tpm2.TPMAlgNull {
		return nil, fmt.Errorf("%w: a digest of %d bytes is too long: this key on this TPM signs with %s", chip.ErrNotSupported, len(digest), k.hashNames(tpm2.TPMAlgECDSA))
	}
	return nil, k.cannotSign("ECDSA", hash)
}

// ecdsaHashes are the hashes to sign with, in order of preference: SHA-1 is last, because TPMs
// may forbid it.
var ecdsaHashes = []crypto.Hash{
	crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA3_256, crypto.SHA3_384, crypto.SHA3_512, crypto.SHA1,
}

// ecdsaDigest returns a digest of size bytes that ECDSA converts to the same integer as digest;
// order is the bit length of the curve's order. ok is false if size is too small.
func ecdsaDigest(digest []byte, order, size int) ([]byte, bool) {
	if whole := (order + 7) / 8; len(digest) > whole {
		digest = digest[:whole]
	}
	e := new(big.Int).SetBytes(digest)
	if excess := 8*len(digest) - order; excess > 0 {
		e.Rsh(e, uint(excess))
	}
	switch surplus := 8*size - order; {
	case surplus >= 0:
		e.Lsh(e, uint(surplus))
	case min(8*len(digest), order) > 8*size:
		return nil, false
	}
	return e.FillBytes(make([]byte, size)), true
}

// ecdsaDER encodes a signature. RFC 3279, section 2.2.3 (Ecdsa-Sig-Value).
func ecdsaDER(r, s []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(new(big.Int).SetBytes(r))
		b.AddASN1BigInt(new(big.Int).SetBytes(s))
	})
	return b.Bytes()
}
