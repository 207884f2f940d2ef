package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"maclef/tpmkey"
)

// TestMain makes the test binary a command called demo, too.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"demo": func() { os.Exit(Main("demo", demo)) },
	})
}

func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}

// demo is a command with one of everything.
func demo(args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	env := NewEnv("demo", stdin, stdout, stderr)
	fs := env.Flags()
	fs.Purpose = "demo shows what commands share."
	fs.Args = []string{"[WORD]"}
	fs.Example = "demo -a word"
	scheme := fs.Choice("e|enc-scheme", "pkcs1v15", "encryption `SCHEME`", "pkcs1v15", "oaep")
	auth := fs.Bool("a|auth", "a flag without a value")
	days := fs.Int("days", 365, 1, 3650, "a `NUMBER`")
	in := fs.Input("in", "", "`FILE` to read")
	outName := fs.String("out", "", "`FILE` to write")
	force := fs.Bool("force", "replace FILE")
	popup := fs.Bool("p|popup", "ask for the new secret in a window")
	need := fs.String("need", "", "secrets to read, comma-separated, in this order")
	tries := fs.String("try", "", "passwords that the secrets may be, comma-separated")
	fail := fs.String("fail", "", "way to fail")
	sleep := fs.Int("sleep", 0, 0, 60000, "milliseconds to take, under progress")
	flood := fs.Bool("flood", "print without end")
	fs.TPM()
	secrets := map[string]*SecretFlag{
		"srk": fs.SRKPass(),
		"key": fs.KeyPass(),
		"new": fs.Secret("new-pass", SecretOptions{Default: "prompt", Label: "New secret", New: true}, "new `SECRET`"),
		"pem": fs.Secret("pem-pass", SecretOptions{Default: "prompt", Label: "Passphrase", Text: true}, "`SECRET` of a PEM file"),
	}
	operands, err := fs.Parse(args)
	if err != nil {
		return err
	}
	if *popup {
		if err := secrets["new"].UsePopup(); err != nil {
			return err
		}
	}
	var out *Output
	if *outName != "" {
		if out, err = env.OpenOutput(*outName, KeyMode, *force); err != nil {
			return err
		}
		defer out.Abort()
	}
	if *sleep > 0 {
		done := env.Progress("taking its time")
		defer done()
		fmt.Fprintln(stdout, "sleeping")
		time.Sleep(time.Duration(*sleep) * time.Millisecond)
	}
	if *need != "" {
		if err := readSecrets(stdout, secrets, *need, *tries); err != nil {
			return err
		}
	}
	if *in != "" {
		data, err := env.ReadInput(*in, 1024, "key file")
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "read %q\n", data)
	}
	if err := failure(*fail); err != nil {
		return err
	}
	for *flood {
		if _, err := fmt.Fprintln(stdout, "flood"); err != nil {
			return err
		}
	}
	if out != nil {
		if _, err := io.WriteString(out, "product\n"); err != nil {
			return err
		}
		return out.Commit()
	}
	fmt.Fprintf(stdout, "word=%s scheme=%s auth=%v days=%d\n", operands[0], *scheme, *auth, *days)
	return nil
}

// readSecrets says what each secret is, as far as it is one of tries.
func readSecrets(stdout io.Writer, secrets map[string]*SecretFlag, need, tries string) error {
	for _, name := range strings.Split(need, ",") {
		if name == "pem" {
			text, err := secrets[name].Text()
			if err != nil {
				return fmt.Errorf("read key: %w", err)
			}
			fmt.Fprintf(stdout, "%s: text %q\n", name, text)
			continue
		}
		secret, err := secrets[name].Resolve()
		if err != nil {
			return fmt.Errorf("load key: %w", err)
		}
		fmt.Fprintf(stdout, "%s: %s\n", name, whichSecret(secret, strings.Split(tries, ",")))
	}
	return nil
}

func whichSecret(secret tpmkey.Secret, tries []string) string {
	for _, try := range tries {
		if reflect.DeepEqual(secret, tpmkey.Password([]byte(try))) {
			return fmt.Sprintf("password %q", try)
		}
		wide, err := tpmkey.PasswordUTF16([]byte(try))
		if err == nil && reflect.DeepEqual(secret, wide) {
			return fmt.Sprintf("utf16 %q", try)
		}
	}
	if reflect.DeepEqual(secret, tpmkey.WellKnown()) {
		return "wellknown"
	}
	return "unknown"
}

func failure(kind string) error {
	switch kind {
	case "":
		return nil
	case "srk":
		return fmt.Errorf("load maclef: %w", tpmkey.ErrWrongSRKSecret)
	case "own":
		return WithHint(errors.New("first line\nsecond \x1b[31mline"), "do this")
	case "usage":
		return Usagef("no good")
	}
	return errors.New(kind)
}
