package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// TestMain makes the test binary a command called demo, too.
func TestMain(m *testing.M) {
	testscript.Main(tpmtest.Tests{TestingM: m}, map[string]func(){
		"demo": func() {
			status := Main("demo", demo)
			if HasTerminal() {
				time.Sleep(20 * time.Millisecond) // testscript closes the terminal at once, with what it has not read
			}
			os.Exit(status)
		},
	})
}

func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("GORACE", "atexit_sleep_ms=0") // the race detector's second for each command
			return nil
		},
	})
}

// demoFlags are one of everything.
type demoFlags struct {
	scheme, in, out, need, tries, fail *string
	auth, force, popup, flood, confirm *bool
	open                               *bool
	finish                             *int
	days, sleep                        *int
	tpm                                *TPMFlag
	secrets                            map[string]*SecretFlag
}

func defineDemo(env *Env) (*FlagSet, *demoFlags) {
	fs := env.Flags()
	fs.Purpose = "demo shows what commands share."
	fs.Args = []string{"[WORD]"}
	fs.Example = "demo -a word"
	f := &demoFlags{
		scheme:  fs.Choice("e|enc-scheme", "pkcs1v15", "encryption `SCHEME`", "pkcs1v15", "oaep"),
		auth:    fs.Bool("a|auth", "a flag without a value"),
		days:    fs.Int("days", 365, 1, 3650, "a `NUMBER`"),
		in:      fs.Input("in", "", "`FILE` to read"),
		out:     fs.String("out", "", "`FILE` to write"),
		force:   fs.Bool("force", "replace FILE"),
		popup:   fs.Bool("p|popup", "ask for the new secret in a window"),
		need:    fs.String("need", "", "secrets to read, comma-separated, in this order"),
		tries:   fs.String("try", "", "passwords that the secrets may be, comma-separated"),
		fail:    fs.String("fail", "", "way to fail"),
		sleep:   fs.Int("sleep", 0, 0, 60000, "milliseconds to take, under progress"),
		flood:   fs.Bool("flood", "print without end"),
		confirm: fs.Bool("confirm", "ask first"),
		open:    fs.Bool("open", "have the TPM give random bytes, and do the rest while it is open"),
		finish:  fs.Int("finish", 0, 0, 60000, "milliseconds that nothing cuts short"),
	}
	f.tpm = fs.TPM()
	f.secrets = map[string]*SecretFlag{
		"srk": fs.SRKPass(),
		"key": fs.KeyPass(),
		"new": fs.Secret("new-pass", SecretOptions{Default: "prompt", Label: "New secret", New: true}, "new `SECRET`"),
		"pem": fs.Secret("pem-pass", SecretOptions{Default: "prompt", Label: "Passphrase", Text: true}, "`SECRET` of a PEM file"),
	}
	return fs, f
}

func demo(args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	env := NewEnv("demo", stdin, stdout, stderr)
	fs, f := defineDemo(env)
	operands, err := fs.Parse(args)
	if err != nil {
		return err
	}
	if *f.confirm {
		if err := env.Confirm("Do it?", "yes", "y"); err != nil {
			return err
		}
	}
	if *f.popup {
		if err := f.secrets["new"].UsePopup(); err != nil {
			return err
		}
	}
	if *f.out == "" {
		if err := f.work(env); err != nil {
			return err
		}
		_, err = fmt.Fprintf(stdout, "word=%s scheme=%s auth=%v days=%d\n", operands[0], *f.scheme, *f.auth, *f.days)
		return err
	}
	out, err := env.OpenOutput(*f.out, KeyMode, *f.force)
	if err != nil {
		return err
	}
	defer out.Abort()
	if err := f.work(env); err != nil {
		return err
	}
	if _, err := io.WriteString(out, "product\n"); err != nil {
		return err
	}
	return out.Commit()
}

// work does what stands between opening the output and writing it.
func (f *demoFlags) work(env *Env) error {
	if !*f.open {
		return f.rest(env)
	}
	return env.WithTPM(f.tpm, func(tpm *tpmkey.TPM) error {
		if _, err := io.ReadFull(tpm.Random(context.Background()), make([]byte, 8)); err != nil {
			return err
		}
		return f.rest(env)
	})
}

func (f *demoFlags) rest(env *Env) error {
	if *f.sleep > 0 {
		fmt.Fprintln(env.Stdout, "sleeping")
		done := env.Progress("taking its time")
		defer done()
		time.Sleep(time.Duration(*f.sleep) * time.Millisecond)
	}
	if *f.finish > 0 {
		over := make(chan struct{})
		defer env.FinishOnSignal(func() { <-over }, "finishing", "not finished")()
		fmt.Fprintln(env.Stdout, "busy")
		time.Sleep(time.Duration(*f.finish) * time.Millisecond)
		close(over)
		fmt.Fprintln(env.Stdout, "finished")
	}
	if *f.need != "" {
		if err := readSecrets(env.Stdout, f.secrets, *f.need, *f.tries); err != nil {
			return err
		}
	}
	if *f.in != "" {
		data, err := env.ReadInput(*f.in, 1024, "key file")
		if err != nil {
			return err
		}
		fmt.Fprintf(env.Stdout, "read %q\n", data)
	}
	for *f.flood {
		if _, err := fmt.Fprintln(env.Stdout, "flood"); err != nil {
			return err
		}
	}
	return failure(*f.fail)
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
		if secret.Equal(tpmkey.Password([]byte(try))) {
			return fmt.Sprintf("password %q", try)
		}
		wide, err := tpmkey.PasswordUTF16([]byte(try))
		if err == nil && secret.Equal(wide) {
			return fmt.Sprintf("utf16 %q", try)
		}
	}
	if secret.Equal(tpmkey.WellKnown()) {
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
