package main

import (
	"strings"

	"maclef/internal/cli"
)

// options is the command line.
type options struct {
	keys       *cli.KeyFlags
	tpm        *cli.TPMFlag // these three are of keys
	key        *string
	keyPass    *cli.SecretFlag
	mount      mountOptions
	users      userList
	dir, point string // as the user wrote them; point is empty for dir itself
}

func parse(env *cli.Env, args []string) (*options, error) {
	fs := env.Flags()
	fs.Purpose = "mount an eCryptfs directory whose file keys are wrapped with a key in a TPM"
	fs.Args = []string{"DIR", "[MOUNTPOINT]"}
	fs.Notes = usageNotes
	fs.Example = "ecryptmount -key maclef /secret\n" +
		"ecryptmount -key maclef -fork -user marie /srv/secret.crypt /srv/secret\n" +
		"umount /secret"
	o := new(options)
	o.keys = fs.Key()
	o.tpm, o.key, o.keyPass = o.keys.TPM, o.keys.Path, o.keys.Secret
	fs.Var(&o.mount, "o", "mount `OPTIONS`, comma-separated: "+strings.Join(optionForms, ", "))
	fs.Var(&o.users, "user", "`NAME[,NAME]` of the users who may open files, besides root (default the owner of DIR)")
	fs.Bool("fork", "go to the background once DIR is mounted; messages go to syslog then")
	operands, err := fs.Parse(args)
	if err != nil {
		return nil, err
	}
	o.dir, o.point = operands[0], operands[1]
	o.keyPass.Label = "Secret of " + *o.key
	return o, nil
}

const usageNotes = `DIR holds the encrypted files. It is mounted over itself, or on MOUNTPOINT. The
command stays and answers the kernel until DIR is unmounted (umount) or the command
is interrupted; then it unmounts DIR. If files are in use it says by whom and goes on
until they are closed; a second interruption detaches DIR at once, and what is open
can be finished, but nothing else opened.

DIR.ecryptmount, beside DIR, is made by the first mount: the settings, and the
passphrase for file names, which only the TPM's key opens. Keep a copy of it and of
the key file. Without it the files can still be read, but their names are lost.

Files in DIR that are not encrypted are refused, or shown with -o
ecryptfs_passthrough; then DIR is mounted read-only, unless -o rw is given, too: the
kernel would let through the bytes of encrypted files as well whenever it does not
get their keys, and what is written to those destroys them.

A DIR that is not root's is mounted nosuid and nodev, unless -o suid or -o dev is
given. What the file system below denies stays denied.

One ecryptmount runs at a time. It shares the TPM with other programs, which may delay
it by -wait at most; the kernel waits for 3 seconds, or 60 where the command loads the
kernel's module itself. Each file that is opened, and not in the kernel's cache, costs
one TPM command; a new file costs none. When the TPM restarts the key is loaded again.`
