package tpmkey_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/policy"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// A parent20 is a parent that a TPM keeps at parentHandle.
type parent20 struct {
	area    tpm2.TPMTPublic
	secret  string
	movable bool   // without fixedTPM
	owner   string // the owner's secret, set afterwards
	noWrap  string // why nothing can be wrapped for it
}

const parentHandle = 0x81000101

// storage returns the template of a storage key with the attributes, and a policy if there is one.
func storage(template tpm2.TPMTPublic, change func(a *tpm2.TPMAObject), commands ...blob.PolicyCommand) tpm2.TPMTPublic {
	change(&template.ObjectAttributes)
	if len(commands) > 0 {
		template.ObjectAttributes.UserWithAuth, template.ObjectAttributes.AdminWithPolicy = false, true
		digest, err := policy.Digest(template.NameAlg, commands)
		if err != nil {
			panic(err)
		}
		template.AuthPolicy.Buffer = digest
	}
	return template
}

func parents20() map[string]parent20 {
	as := func(*tpm2.TPMAObject) {}
	movable := func(a *tpm2.TPMAObject) { a.FixedTPM, a.FixedParent = false, false }
	inner := func(a *tpm2.TPMAObject) { a.FixedTPM, a.FixedParent, a.EncryptedDuplication = false, false, true }
	counted := func(a *tpm2.TPMAObject) { a.NoDA = false }
	symmetric := storage(tpm2.ECCSRKTemplate, as)
	symmetric.Type = tpm2.TPMAlgSymCipher
	symmetric.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgSymCipher, &tpm2.TPMSSymCipherParms{Sym: tpm2.TPMTSymDefObject{
		Algorithm: tpm2.TPMAlgAES,
		KeyBits:   tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(128)), Mode: tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
	}})
	symmetric.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgSymCipher, &tpm2.TPM2BDigest{})
	return map[string]parent20{
		"RSA endorsement key":              {area: tpm2.RSAEKTemplate},
		"ECC endorsement key":              {area: tpm2.ECCEKTemplate},
		"by the owner's secret":            {area: storage(tpm2.ECCSRKTemplate, as, policy.HierarchySecret(tpm2.TPMRHOwner)), owner: "proprio"},
		"by its secret, through a policy":  {area: storage(tpm2.ECCSRKTemplate, counted, policy.AuthValue()), secret: "parent"},
		"by its secret":                    {area: storage(tpm2.ECCSRKTemplate, counted), secret: "parent"},
		"without fixedTPM":                 {area: storage(tpm2.ECCSRKTemplate, movable), movable: true},
		"RSA without fixedTPM, a secret":   {area: storage(tpm2.RSASRKTemplate, movable), movable: true, secret: "parent"},
		"without fixedTPM, by the owner's": {area: storage(tpm2.ECCSRKTemplate, movable, policy.HierarchySecret(tpm2.TPMRHOwner)), movable: true, owner: "proprio"},
		"symmetric":                        {area: symmetric, noWrap: "symmetric key"},
		"with encryptedDuplication":        {area: storage(tpm2.ECCSRKTemplate, inner), movable: true, noWrap: "has the attribute encryptedDuplication"},
	}
}

// Keys are made, wrapped and sealed under each kind of parent, and work. Sessions are salted to
// a parent only if it is surely in this TPM alone, and nothing is left in the TPM.
func TestParentKinds20(t *testing.T) {
	t.Parallel()
	for name, parent := range parents20() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sw := tpmtest.Start(t, tpmtest.TPM20)
			sw.KeepAt(parentHandle, parent.area, parent.secret)
			if parent.owner != "" {
				sw.Send(tpmtest.OwnerSecret(parent.owner))
			}
			p := tpmtest.StartProxy(t, sw)
			tpm, notes := openNoted(t, p.Name)
			p.Arm(countOnly, tpmtest.Fault{})
			parent.use(t, tpm)
			if noted := strings.Contains(strings.Join(*notes, ""), "has no fixedTPM"); noted != parent.movable {
				t.Errorf("noted %q", *notes)
			}
			wantTries(t, tpm, 0)
			for _, e := range p.Exchanges() {
				if e.Name() == "TPM2_StartAuthSession" && parent.movable && binary.BigEndian.Uint32(e.Command[10:]) == parentHandle {
					t.Error("a session is salted to a parent without fixedTPM")
				}
			}
		})
	}
}

// use makes what can be made under the parent, and uses it.
func (parent *parent20) use(t *testing.T, tpm *tpmkey.TPM) {
	t.Helper()
	software, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	given := tpmkey.Password([]byte(parent.secret + parent.owner))
	create := tpmkey.CreateOptions{Type: tpmkey.P256, Parent: parentHandle, ParentAuth: given, Auth: motdepasse(), MovableParent: true}
	load := &tpmkey.LoadOptions{ParentAuth: given, Auth: motdepasse(), MovableParent: true}
	made, err := tpm.Create(t.Context(), &create)
	if err != nil {
		t.Fatal(err)
	}
	files := []blob.Key{made}
	wrapped, err := tpm.Wrap(t.Context(), software, &tpmkey.WrapOptions{CreateOptions: create})
	switch {
	case err == nil && parent.noWrap == "":
		files = append(files, wrapped)
	case parent.noWrap == "" || err == nil || !strings.Contains(err.Error(), parent.noWrap):
		t.Errorf("wrap: %v", err)
	}
	for _, file := range files {
		key, err := tpm.Load(t.Context(), file, load)
		if err != nil {
			t.Fatal(err)
		}
		mustSign(t, key)
		if err := key.Close(); err != nil {
			t.Error(err)
		}
	}
	sealed, err := tpm.Seal(t.Context(), []byte("data"), &tpmkey.SealOptions{ParentAuth: given, Auth: motdepasse(), Parent: parentHandle, MovableParent: true})
	if err != nil {
		t.Fatal(err)
	}
	if data, err := tpm.Unseal(t.Context(), sealed, load); err != nil || string(data) != "data" {
		t.Errorf("unsealed %q, %v", data, err)
	}
}

// A parent's secret is used with a parent without fixedTPM only if the caller allows that.
func TestMovableParent(t *testing.T) {
	t.Parallel()
	parent := parents20()["RSA without fixedTPM, a secret"]
	sw := tpmtest.Start(t, tpmtest.TPM20)
	sw.KeepAt(parentHandle, parent.area, parent.secret)
	p := tpmtest.StartProxy(t, sw)
	tpm := openName(t, p.Name)
	opts := tpmkey.CreateOptions{Type: tpmkey.P256, Parent: parentHandle, ParentAuth: tpmkey.Password([]byte(parent.secret)), MovableParent: true}
	file, err := tpm.Create(t.Context(), &opts)
	if err != nil {
		t.Fatal(err)
	}
	if file.Migratable() {
		t.Error("the new key can be moved without its parent")
	}
	opts.MovableParent = false
	p.Arm(countOnly, tpmtest.Fault{})
	_, err = tpm.Create(t.Context(), &opts)
	tpmtest.WantError(t, err, tpmkey.ErrMovableParent, "0x81000101 has no fixedTPM")
	_, err = tpm.Load(t.Context(), file, &tpmkey.LoadOptions{ParentAuth: opts.ParentAuth})
	tpmtest.WantError(t, err, tpmkey.ErrMovableParent, "its secret was not used")
	asked := tpmkey.AskSecret(func() (tpmkey.Secret, error) {
		t.Error("a secret was asked for that must not be used")
		return opts.ParentAuth, nil
	})
	_, err = tpm.Create(t.Context(), &tpmkey.CreateOptions{Type: tpmkey.P256, Parent: parentHandle, ParentAuth: asked})
	tpmtest.WantError(t, err, tpmkey.ErrMovableParent, "0x81000101 has no fixedTPM")
	_, err = tpm.Load(t.Context(), file, &tpmkey.LoadOptions{ParentAuth: asked})
	tpmtest.WantError(t, err, tpmkey.ErrMovableParent, "0x81000101 has no fixedTPM")
	_, err = tpm.Create(t.Context(), &tpmkey.CreateOptions{Type: tpmkey.P256, Parent: parentHandle + 1, ParentAuth: asked, MovableParent: true})
	tpmtest.WantError(t, err, tpmkey.ErrNoParent, "0x81000102")
	if n := sentOf(p, "TPM2_Create", "TPM2_Load", "TPM2_StartAuthSession"); n > 0 {
		t.Errorf("%d commands were sent to the parent", n)
	}
}

// What is wrong with a parent is told, and a wrong secret costs what the TPM counts.
func TestParentRefused20(t *testing.T) {
	t.Parallel()
	all := parents20()
	pcr := storage(tpm2.ECCSRKTemplate, func(*tpm2.TPMAObject) {}, blob.PolicyCommand{Code: uint32(tpm2.TPMCCPolicyCommandCode), Policy: []byte{0, 0, 1, 0x57}})
	for name, c := range map[string]struct {
		parent parent20
		given  string
		want   error
		text   string
		tries  int
	}{
		"the owner's secret is needed":   {all["by the owner's secret"], "", tpmkey.ErrWrongSRKSecret, "does not count; the parent's policy: it asks for the secret of the owner hierarchy, which is not empty", 0},
		"another owner's secret":         {all["by the owner's secret"], "faux", tpmkey.ErrWrongSRKSecret, "does not count; the parent's policy asks for the secret of the owner hierarchy", 0},
		"its secret is needed":           {all["by its secret, through a policy"], "faux", tpmkey.ErrWrongSRKSecret, "1 of 3 tries used", 1},
		"a policy that no table has":     {parent20{area: pcr}, "", tpmkey.ErrNotSupported, "only by its policy", 0},
		"a key that is no parent at all": {parent20{area: signingKey()}, "", tpmkey.ErrNoParent, "no storage key", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sw := tpmtest.Start(t, tpmtest.TPM20)
			sw.KeepAt(parentHandle, c.parent.area, c.parent.secret)
			if c.parent.owner != "" {
				sw.Send(tpmtest.OwnerSecret(c.parent.owner))
			}
			tpm := openName(t, sw.Socket)
			_, err := tpm.Create(t.Context(), &tpmkey.CreateOptions{Type: tpmkey.P256, Parent: parentHandle, ParentAuth: tpmkey.Password([]byte(c.given))})
			tpmtest.WantError(t, err, c.want, c.text)
			wantTries(t, tpm, c.tries)
		})
	}
}

func signingKey() tpm2.TPMTPublic {
	area := kind20{sign: true, curve: tpm2.TPMECCNistP256}.area()
	return *area
}

// childOf makes a key that counts no wrong secrets under a primary key of the owner, with the
// commands of another program, and returns its file.
func childOf(t *testing.T, sw *tpmtest.SWTPM, primary tpm2.TPMTPublic) *blob.TSS2 {
	t.Helper()
	tpm := sw.Dial()
	defer tpm.Close()
	parent, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(primary)}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm2.FlushContext{FlushHandle: parent.ObjectHandle}.Execute(tpm)
	create := tpm2.Create{
		ParentHandle: tpm2.AuthHandle{Handle: parent.ObjectHandle, Name: parent.Name, Auth: tpm2.PasswordAuth(nil)}, InPublic: tpm2.New2B(signingKey()),
	}
	made, err := create.Execute(tpm)
	if errors.Is(err, tpm2.TPMRCRetry) { // libtpms notes first that a parent that counts is used
		made, err = create.Execute(tpm)
	}
	if err != nil {
		t.Fatal(err)
	}
	file, err := blob.NewTSS2(blob.TSS2{EmptyAuth: true, Parent: uint32(tpm2.TPMRHOwner), Public: tpm2.Marshal(made.OutPublic), Private: tpm2.Marshal(made.OutPrivate)})
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// In a lockout, a key whose parent counts wrong secrets is locked out, not one of another TPM,
// also if other parents are tried first. Keys of other parents still work.
func TestLockoutOfParent(t *testing.T) {
	t.Parallel()
	counted := func(template tpm2.TPMTPublic) tpm2.TPMTPublic {
		template = storage(template, func(a *tpm2.TPMAObject) { a.NoDA = false })
		if template.Type == tpm2.TPMAlgECC {
			template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
		} else {
			template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{})
		}
		return template
	}
	sw := tpmtest.Start(t, tpmtest.TPM20)
	sw.KeepAt(parentHandle, counted(tpm2.ECCSRKTemplate), "")
	files := map[string]*blob.TSS2{
		"ECC, tpm2_createprimary's": childOf(t, sw, counted(tpm2.ECCSRKTemplate)),
		"RSA, tpm2_createprimary's": childOf(t, sw, counted(tpm2.RSASRKTemplate)),
	}
	persistent := *files["ECC, tpm2_createprimary's"]
	persistent.Parent = parentHandle
	files["persistent"] = &persistent
	works := childOf(t, sw, tpm2.RSASRKTemplate) // of 256 zeros, which is tried last
	tpm := openName(t, sw.Socket)
	for name, file := range files {
		key, err := tpm.Load(t.Context(), file, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		mustSign(t, key)
		if err := key.Close(); err != nil {
			t.Error(err)
		}
	}
	dialed := sw.Dial()
	tpmtest.SpendTries(t, dialed, tpmtest.MaxTries20)
	dialed.Close()
	tpm = openName(t, sw.Socket) // which does not know the parents
	for name, file := range files {
		_, err := tpm.Load(t.Context(), file, nil)
		if tpmtest.WantError(t, err, tpmkey.ErrLockedOut); errors.Is(err, tpmkey.ErrWrongTPM) {
			t.Errorf("%s: %v", name, err)
		}
	}
	key, err := tpm.Load(t.Context(), works, nil)
	if err != nil {
		t.Fatal(err)
	}
	mustSign(t, key)
	_, err = tpm.Create(t.Context(), &tpmkey.CreateOptions{Type: tpmkey.P256, Parent: parentHandle})
	tpmtest.WantError(t, err, tpmkey.ErrLockedOut)
}

// An importable file that TPM2_Import refuses is told as such, also where libtpms answers
// TPM_RC_FAILURE: the TPM has not failed.
func TestDamagedImportable(t *testing.T) {
	t.Parallel()
	tpm := openState(t, tpmtest.Keys20)
	for _, name := range []string{"e2-import-rsa", "e2-import-ec"} {
		good := fixture20(t, name)
		for _, at := range []int{2, 3, 40, len(good.Secret) / 2, len(good.Secret) - 1} {
			bad := *good
			bad.Secret = slices.Clone(good.Secret)
			bad.Secret[at] ^= 0x5a
			_, err := tpm.Load(t.Context(), &bad, nil)
			if tpmtest.WantError(t, err, tpmkey.ErrWrongTPM); strings.Contains(err.Error(), "the TPM has failed") {
				t.Errorf("%s, byte %d: %v", name, at, err)
			}
		}
	}
	if err := signs(loadWith(t, tpm, "e2-import-rsa", tpmkey.Secret{}, tpmkey.Secret{})); err != nil {
		t.Error(err)
	}
}

// A key under the null hierarchy ends with a restart, which the error says.
func TestNullHierarchyEnds(t *testing.T) {
	t.Parallel()
	sw := tpmtest.Start(t, tpmtest.TPM20)
	tpm, notes := openNoted(t, sw.Socket)
	file, err := tpm.Create(t.Context(), &tpmkey.CreateOptions{Type: tpmkey.P256, Parent: uint32(tpm2.TPMRHNull)})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(*notes, ""), "ends when the TPM restarts") {
		t.Errorf("noted %q", *notes)
	}
	key, err := tpm.Load(t.Context(), file, nil)
	if err != nil {
		t.Fatal(err)
	}
	mustSign(t, key)
	sw.Restart()
	tpmtest.WantError(t, signs(key), tpmkey.ErrWrongTPM, "the key has ended", "null hierarchy")
	_, err = tpm.Load(t.Context(), file, nil)
	tpmtest.WantError(t, err, tpmkey.ErrWrongTPM, "the key has ended")
}

// Where the owner's secret is not known, a key works under the SRK that the TPM keeps at
// 0x81000001 also if the file does not say that this is the key's parent.
func TestOwnerSecretUnknown(t *testing.T) {
	t.Parallel()
	template := tpm2.RSASRKTemplate
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{})
	sw := tpmtest.Start(t, tpmtest.TPM20)
	sw.KeepAt(0x81000001, template, "")
	file := childOf(t, sw, template)
	pair, err := blob.ParsePair(file.Public, file.Private)
	if err != nil {
		t.Fatal(err)
	}
	sw.Send(tpmtest.OwnerSecret("proprio"))
	for name, c := range map[string]struct {
		file blob.Key
		auth tpmkey.Secret
	}{"file": {file, tpmkey.Secret{}}, "pair": {pair, tpmkey.WellKnown()}} {
		key, err := openName(t, sw.Socket).Load(t.Context(), c.file, &tpmkey.LoadOptions{Auth: c.auth})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		mustSign(t, key)
		if err := key.Close(); err != nil {
			t.Error(err)
		}
	}
}

// openNoted opens a TPM, and collects what it notes.
func openNoted(t *testing.T, name string) (tpm *tpmkey.TPM, notes *[]string) {
	t.Helper()
	notes = new([]string)
	tpm, err := tpmkey.OpenWithOptions(t.Context(), name, &tpmkey.OpenOptions{Note: func(text string) { *notes = append(*notes, text) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tpm.Close(); err != nil {
			t.Error(err)
		}
	})
	return tpm, notes
}

// sentOf counts commands by their names.
func sentOf(p *tpmtest.Proxy, names ...string) (n int) {
	for _, e := range p.Exchanges() {
		if countOf([]string{e.Name()}, names...) > 0 {
			n++
		}
	}
	return n
}

func countOf(names []string, of ...string) (n int) {
	for _, name := range names {
		if slices.Contains(of, name) {
			n++
		}
	}
	return n
}

// pair20 is the key of a pair of files of tpm2-tools.
func pair20(t *testing.T, name string) blob.Key {
	t.Helper()
	file, err := blob.ParsePair(tpmtest.Fixture(t, "tpm2/"+name+".pub"), tpmtest.Fixture(t, "tpm2/"+name+".priv"))
	if err != nil {
		t.Fatal(err)
	}
	return file
}
