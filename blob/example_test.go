package blob_test

import (
	"fmt"
	"os"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
)

func ExampleParse() {
	data, err := os.ReadFile("../internal/tpmtest/testdata/tpm12-tutorial/auth")
	if err != nil {
		fmt.Println(err)
		return
	}
	key, err := blob.Parse(data)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(key.Container, key.KeyLength, "bits")
	fmt.Println(key.Usage, key.SigScheme, key.EncScheme)
	fmt.Println("needs a secret:", key.NeedsSecret())
	// Output:
	// PEM TSS KEY BLOB 2048 bits
	// TPM_KEY_LEGACY TPM_SS_RSASSAPKCS1v15_DER TPM_ES_RSAESPKCSv15
	// needs a secret: true
}

func ExampleParse_tss2() {
	data, err := os.ReadFile("../internal/tpmtest/testdata/tpm2/e2-p256-pcr.pem")
	if err != nil {
		fmt.Println(err)
		return
	}
	key, err := blob.Parse(data)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(key.TSS2.Type)
	fmt.Println("signs:", key.CanSign())
	for _, command := range key.TSS2.Policy {
		fmt.Println(command.Words(tpm2.TPMAlgSHA256))
	}
	// Output:
	// loadable key
	// signs: true
	// PolicyPCR: sha256 PCRs 16, 23
}

func ExamplePolicyDigest() {
	policy := []blob.PolicyCommand{{Code: tpm2.TPMCCPolicyAuthValue}}
	digest, err := blob.PolicyDigest(tpm2.TPMAlgSHA256, policy)
	if err != nil {
		fmt.Println(err)
		return
	}
	template, err := blob.NewTSS2Template(blob.TSS2Template{Type: "p256", AuthPolicy: digest, NeedSecret: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%.8x, alone rules the key: %v\n", digest, !template.ObjectAttributes.UserWithAuth)
	// Output: 8fcd2169ab92694e, alone rules the key: true
}
