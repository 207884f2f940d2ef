package tpm20

import (
	"bytes"
	"crypto/ecdh"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/pubarea"
)

// publicOf parses a TPMT_PUBLIC and checks its key. If name is not nil, it must be the name of
// the public area.
func publicOf(area, name []byte) (public *tpm2.TPMTPublic, err error) {
	defer func() {
		if r := recover(); r != nil {
			public, err = nil, fmt.Errorf("no public area: %v", r)
		}
	}()
	if public, err = tpm2.Unmarshal[tpm2.TPMTPublic](area); err != nil {
		return nil, err
	}
	if !bytes.Equal(tpm2.Marshal(*public), area) {
		return nil, errors.New("it has extra bytes")
	}
	o := Object{Name: tpm2.TPM2BName{Buffer: name}, Public: public}
	if name != nil {
		if err := o.check(); err != nil {
			return nil, err
		}
	}
	return public, checkKey(public)
}

// An UnknownObject is the error for an object with algorithms that go-tpm does not know, such as a
// storage key with Camellia.
type UnknownObject struct {
	Handle    tpm2.TPMHandle
	Public    []byte // TPM2B_PUBLIC
	Algorithm string // the common name
}

func (e *UnknownObject) Error() string {
	return fmt.Sprintf("the object at %#x uses %s, which this program does not support", uint32(e.Handle), e.Algorithm)
}

// unknownObject returns nil if the public area is not valid, or does not have this name.
func unknownObject(h tpm2.TPMHandle, area, name []byte) *UnknownObject {
	e := &UnknownObject{Handle: h, Public: appendSized(nil, area)}
	p, err := pubarea.Parse(e.Public)
	if err != nil {
		return nil
	}
	own := binary.BigEndian.AppendUint16(nil, uint16(p.NameAlg))
	hash, err := p.NameAlg.Hash()
	if err == nil && hash.Available() {
		digest := hash.New()
		digest.Write(area)
		own = digest.Sum(own)
	}
	switch {
	case !bytes.HasPrefix(name, own):
		return nil
	case len(own) == 2:
		e.Algorithm = pubarea.AlgName(p.NameAlg)
	case p.Unknown != "":
		e.Algorithm = p.Unknown
	case p.Symmetric.Alg != tpm2.TPMAlgAES && p.Symmetric.Alg != tpm2.TPMAlgNull:
		e.Algorithm = pubarea.AlgName(p.Symmetric.Alg)
	default:
		e.Algorithm = pubarea.AlgName(p.Scheme.Alg)
	}
	return e
}

// checkKey checks an RSA modulus, or a point on a curve that Go knows.
func checkKey(public *tpm2.TPMTPublic) error {
	switch public.Type {
	case tpm2.TPMAlgRSA:
		parms, err := public.Parameters.RSADetail()
		if err != nil {
			return err
		}
		n, err := public.Unique.RSA()
		if err != nil {
			return err
		}
		if size := len(n.Buffer); size == 0 || size*8 != int(parms.KeyBits) || n.Buffer[0]&0x80 == 0 || n.Buffer[size-1]&1 == 0 {
			return fmt.Errorf("%d bytes are not a valid modulus of %d bits", len(n.Buffer), parms.KeyBits)
		}
	case tpm2.TPMAlgECC:
		parms, err := public.Parameters.ECCDetail()
		if err != nil {
			return err
		}
		point, err := public.Unique.ECC()
		if err != nil {
			return err
		}
		_, err = pointOf(parms.CurveID, point.X.Buffer, point.Y.Buffer)
		return err
	}
	return nil
}

// A curve is an elliptic curve that Go knows, with the size of a coordinate in bytes.
type curve struct {
	ecdh.Curve
	width int
}

// curveOf returns a nil Curve if Go does not know the curve.
func curveOf(id tpm2.TPMECCCurve) curve {
	switch id {
	case tpm2.TPMECCNistP256:
		return curve{ecdh.P256(), 32}
	case tpm2.TPMECCNistP384:
		return curve{ecdh.P384(), 48}
	case tpm2.TPMECCNistP521:
		return curve{ecdh.P521(), 66}
	}
	return curve{}
}

// pointOf returns a point in uncompressed form. It pads the coordinates, because a TPM may omit
// leading zeros. For an unknown curve it returns nil.
func pointOf(id tpm2.TPMECCCurve, x, y []byte) ([]byte, error) {
	c := curveOf(id)
	if c.Curve == nil {
		return nil, nil
	}
	if len(x) > c.width || len(y) > c.width {
		return nil, fmt.Errorf("a coordinate of %d bytes on a curve of %d", max(len(x), len(y)), c.width)
	}
	point := make([]byte, 1+2*c.width)
	point[0] = 4
	copy(point[1+c.width-len(x):], x)
	copy(point[1+2*c.width-len(y):], y)
	if _, err := c.NewPublicKey(point); err != nil {
		return nil, errors.New("its point is not on the curve")
	}
	return point, nil
}
