package tpm20

import (
	"bytes"
	"crypto/ecdh"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// publicOf reads a TPMT_PUBLIC, whose name this must be unless it is nil. The key in
// it is one that exists: a point of its curve, a modulus of its size.
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
		return nil, errors.New("its public area is not all of it")
	}
	o := Object{Name: tpm2.TPM2BName{Buffer: name}, Public: public}
	if name != nil {
		if err := o.check(); err != nil {
			return nil, err
		}
	}
	return public, checkKey(public)
}

// checkKey looks at the public key, of the kinds that are known here.
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
			return fmt.Errorf("%d bytes are no modulus of %d bits", len(n.Buffer), parms.KeyBits)
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

// A curve is one of those that Go knows, and the width of a coordinate.
type curve struct {
	ecdh.Curve
	width int
}

// curveOf returns a nil Curve for one that Go does not know.
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

// pointOf returns a point's coordinates, padded to the curve's width; they are one
// behind the other after a 4. A TPM may leave zeros in front out. A point of an
// unknown curve is nil.
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
