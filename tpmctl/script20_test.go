package main

import (
	"errors"
	"os"
	"strconv"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/rogpeppe/go-internal/testscript"

	"maclef/blob"
	"maclef/internal/pubarea"
	"maclef/internal/tpmtest"
	"maclef/internal/transport"
)

// cmdFill20 is "fill20": load keys into a TPM 2.0 until there is no more room, and leave
// them there. "fill20 sessions" opens sessions.
func cmdFill20(ts *testscript.TestScript, neg bool, args []string) {
	sessions := len(args) == 1 && args[0] == "sessions"
	if neg || len(args) > 0 && !sessions {
		ts.Fatalf("usage: fill20 [sessions]")
	}
	dev, err := transport.Open("unix:"+ts.Getenv("SOCKET"), time.Minute)
	ts.Check(err)
	defer dev.Close()
	for err == nil && sessions {
		_, _, err = tpm2.HMACSession(dev, tpm2.TPMAlgSHA256, 16)
	}
	for err == nil {
		_, err = tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHNull, InPublic: tpm2.New2B(signTemplate)}.Execute(dev)
	}
	if !errors.Is(err, tpm2.TPMRCObjectMemory) && !errors.Is(err, tpm2.TPMRCSessionMemory) {
		ts.Check(err)
	}
}

// signTemplate is a key that signs, and does nothing else.
var signTemplate = tpm2.TPMTPublic{
	Type:    tpm2.TPMAlgECC,
	NameAlg: tpm2.TPMAlgSHA256,
	ObjectAttributes: tpm2.TPMAObject{
		FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, SignEncrypt: true,
	},
	Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256}),
}

// cmdKeep is "keep [-noda] HANDLE [SECRET]": have a TPM 2.0 keep an ECC P-256 key that signs,
// as tpm2_evictcontrol does. With -noda the TPM counts none of its wrong secrets.
func cmdKeep(ts *testscript.TestScript, neg bool, args []string) {
	area := signTemplate
	if len(args) > 0 && args[0] == "-noda" {
		args, area.ObjectAttributes.NoDA = args[1:], true
	}
	if neg || len(args) == 0 || len(args) > 2 {
		ts.Fatalf("usage: keep [-noda] HANDLE [SECRET]")
	}
	handle, err := strconv.ParseUint(args[0], 0, 32)
	ts.Check(err)
	create := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(area)}
	if len(args) == 2 {
		create.InSensitive.Sensitive = &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: []byte(args[1])}}
	}
	keepPrimary(ts, create, tpm2.TPMHandle(handle))
}

// cmdKeepCamellia is "keepcamellia HANDLE": have a TPM 2.0 keep a storage key with Camellia, which
// go-tpm does not know, as tpm2_createprimary -G ecc256:null:camellia128cfb makes it.
func cmdKeepCamellia(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: keepcamellia HANDLE")
	}
	handle, err := strconv.ParseUint(args[0], 0, 32)
	ts.Check(err)
	attributes := uint32(pubarea.AttrFixedTPM | pubarea.AttrFixedParent | pubarea.AttrSensitiveDataOrigin | pubarea.AttrUserWithAuth |
		pubarea.AttrRestricted | pubarea.AttrDecrypt)
	area := tpmtest.PublicArea(tpm2.TPMAlgECC, tpm2.TPMAlgSHA256, attributes, []byte{}, tpm2.TPMAlgCamellia, 128, tpm2.TPMAlgCFB,
		null, tpm2.TPMECCNistP256, null, []byte{}, []byte{})
	keepPrimary(ts, tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.BytesAs2B[tpm2.TPMTPublic](area[2:])}, tpm2.TPMHandle(handle))
}

// keepPrimary has a TPM 2.0 keep a primary key.
func keepPrimary(ts *testscript.TestScript, create tpm2.CreatePrimary, handle tpm2.TPMHandle) {
	dev, err := transport.Open("unix:"+ts.Getenv("SOCKET"), time.Minute)
	ts.Check(err)
	defer dev.Close()
	made, err := create.Execute(dev)
	ts.Check(err)
	_, err = tpm2.EvictControl{
		Auth:             tpm2.TPMRHOwner,
		ObjectHandle:     &tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name},
		PersistentHandle: handle,
	}.Execute(dev)
	ts.Check(err)
	_, err = tpm2.FlushContext{FlushHandle: made.ObjectHandle}.Execute(dev)
	ts.Check(err)
}

// cmdPair is "pair FILE NAME": write the key of a TSS2 PRIVATE KEY file as NAME.pub and
// NAME.priv, as tpm2_create does. They have neither the policy nor whether there is a secret.
func cmdPair(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: pair FILE NAME")
	}
	key, err := blob.Parse([]byte(ts.ReadFile(args[0])))
	ts.Check(err)
	file := key.(*blob.TSS2)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]+".pub"), file.Public, 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]+".priv"), file.Private, 0o600))
}
