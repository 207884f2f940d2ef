package blob_test

import (
	"fmt"
	"os"

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
	fmt.Println(key.Container())
	if k, ok := key.(*blob.TPMKey); ok {
		fmt.Println(k.Usage, k.SigScheme, k.EncScheme)
	}
	fmt.Println("needs a secret:", key.NeedsSecret())
	// Output:
	// PEM TSS KEY BLOB
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
	if k, ok := key.(*blob.TSS2); ok {
		fmt.Println(k.Type)
	}
	fmt.Println("signs:", key.CanSign())
	// Output:
	// loadable key
	// signs: true
}
