package blob

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"maclef/internal/pubarea"
)

// create makes an object under the primary key of template H-2.
func create(t *testing.T, tpm transport.TPM, parent tpm2.AuthHandle, template *tpm2.TPMTPublic, secret, data []byte) *tpm2.CreateResponse {
	t.Helper()
	rsp, err := tpm2.Create{
		ParentHandle: parent,
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			UserAuth: tpm2.TPM2BAuth{Buffer: secret},
			Data:     tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: data}),
		}},
		InPublic: tpm2.New2B(*template),
	}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	return rsp
}

// authValuePolicy is a policy that asks for the key's secret, and its digest.
func authValuePolicy(t *testing.T) (commands []PolicyCommand, digest []byte) {
	t.Helper()
	calculator, err := tpm2.NewPolicyCalculator(tpm2.TPMAlgSHA256)
	if err != nil {
		t.Fatal(err)
	}
	if err := (tpm2.PolicyAuthValue{}).Update(calculator); err != nil {
		t.Fatal(err)
	}
	return []PolicyCommand{{Code: uint32(tpm2.TPMCCPolicyAuthValue)}}, calculator.Hash().Digest
}

func TestNewTSS2Template(t *testing.T) {
	tpm := startTPM(t)
	primary, _ := primaryECC(t, tpm)
	parent := tpm2.AuthHandle{Handle: primary.Handle, Name: primary.Name, Auth: tpm2.PasswordAuth(nil)}
	value, digest := authValuePolicy(t)
	for _, c := range []struct {
		tmpl   TSS2Template
		policy []PolicyCommand
		secret string
		can    string
		attrs  string
	}{
		{TSS2Template{}, nil, "", "sign decrypt", "userWithAuth, noDA, decrypt, sign"},
		{TSS2Template{Type: "p256", NeedSecret: true, NoDA: true}, nil, "motdepasse", "sign agree", "userWithAuth, noDA, decrypt, sign"},
		{TSS2Template{Type: "p384", AuthPolicy: digest, NeedSecret: true}, value, "motdepasse", "sign agree", "decrypt, sign"},
		{TSS2Template{Type: "p521", NeedSecret: true}, nil, "motdepasse", "sign agree", "userWithAuth, decrypt, sign"},
	} {
		t.Run(c.tmpl.Type, func(t *testing.T) {
			template, err := c.tmpl.area()
			if err != nil {
				t.Fatal(err)
			}
			rsp := create(t, tpm, parent, template, []byte(c.secret), nil)
			k, err := NewTSS2(TSS2{
				EmptyAuth: c.secret == "", Policy: c.policy, Parent: handleOwner,
				Public: tpm2.Marshal(rsp.OutPublic), Private: tpm2.Marshal(rsp.OutPrivate),
			})
			if err != nil {
				t.Fatal(err)
			}
			if cans(k) != c.can || k.NeedsSecret() != (c.secret != "") || k.Migratable() || k.Container() != TSS2PEM {
				t.Errorf("can %q, needs a secret %v", cans(k), k.NeedsSecret())
			}
			p, err := pubarea.Parse(k.Public)
			if err != nil || strings.Join(p.AttributeNames(), ", ") != "fixedTPM, fixedParent, sensitiveDataOrigin, "+c.attrs {
				t.Errorf("attributes %q, error %v", p.AttributeNames(), err)
			}
			loaded, err := tpm2.Load{ParentHandle: parent, InPrivate: rsp.OutPrivate, InPublic: rsp.OutPublic}.Execute(tpm)
			if err != nil {
				t.Fatal(err)
			}
			defer tpm2.FlushContext{FlushHandle: loaded.ObjectHandle}.Execute(tpm)
			if c.policy == nil {
				key := tpm2.NamedHandle{Handle: loaded.ObjectHandle, Name: loaded.Name}
				signAndVerify(t, tpm, key, tpm2.PasswordAuth([]byte(c.secret)), k.PublicKey())
			}
		})
	}
}

func TestTSS2Types(t *testing.T) {
	sizes := map[string]tpm2.TPMKeyBits{"rsa2048": 2048, "rsa3072": 3072, "rsa4096": 4096}
	for _, name := range tss2Types {
		area, err := TSS2Template{Type: name}.area()
		if err != nil {
			t.Fatal(err)
		}
		if detail, err := area.Parameters.RSADetail(); err == nil && detail.KeyBits != sizes[name] {
			t.Errorf("%s: %d bits", name, detail.KeyBits)
		} else if err != nil && pubarea.CurveSpec(curveOf(t, area)) != "TPM_ECC_NIST_"+strings.ToUpper(name) {
			t.Errorf("%s: %s", name, pubarea.CurveSpec(curveOf(t, area)))
		}
	}
}

func curveOf(t *testing.T, area *tpm2.TPMTPublic) tpm2.TPMECCCurve {
	t.Helper()
	detail, err := area.Parameters.ECCDetail()
	if err != nil {
		t.Fatal(err)
	}
	return detail.CurveID
}

func TestSealedTemplate(t *testing.T) {
	tpm := startTPM(t)
	primary, _ := primaryECC(t, tpm)
	parent := tpm2.AuthHandle{Handle: primary.Handle, Name: primary.Name, Auth: tpm2.PasswordAuth(nil)}
	template, err := TSS2Template{Type: "sealed"}.area()
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("x"), MaxSealed)
	rsp := create(t, tpm, parent, template, nil, data)
	k, err := NewTSS2(TSS2{
		Type: TSS2Sealed, EmptyAuth: true, Parent: handleOwner,
		Public: tpm2.Marshal(rsp.OutPublic), Private: tpm2.Marshal(rsp.OutPrivate),
	})
	if err != nil || !k.Sealed() || k.PublicKey() != nil || k.NeedsSecret() || cans(k) != "" {
		t.Fatalf("%+v, %v", k, err)
	}
	loaded, err := tpm2.Load{ParentHandle: parent, InPrivate: rsp.OutPrivate, InPublic: rsp.OutPublic}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm2.FlushContext{FlushHandle: loaded.ObjectHandle}.Execute(tpm)
	got, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{Handle: loaded.ObjectHandle, Name: loaded.Name, Auth: tpm2.PasswordAuth(nil)}}.Execute(tpm)
	if err != nil || !bytes.Equal(got.OutData.Buffer, data) {
		t.Errorf("unsealed %q, %v", got, err)
	}
}

func TestNewTSS2TemplateRefuses(t *testing.T) {
	for _, c := range []struct {
		tmpl TSS2Template
		want string
	}{
		{TSS2Template{Type: "rsa1024"}, `no type of TPM 2.0 key "rsa1024"`},
		{TSS2Template{Type: "P256"}, "use one of rsa2048, "},
		{TSS2Template{AuthPolicy: make([]byte, 20)}, "20 bytes"},
	} {
		if _, err := NewTSS2Template(c.tmpl); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.tmpl, err)
		}
	}
	if _, err := NewTSS2(TSS2{Handle: persistentRSA}); err == nil {
		t.Error("a file of a key that stays in its TPM")
	}
}
