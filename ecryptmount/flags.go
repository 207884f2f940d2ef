package main

import (
	"strings"

	"maclef/internal/cli"
)

type options struct {
	keys       *cli.KeyFlags
	tpm        *cli.TPMFlag // this and the next are fields of keys
	key        *string
	mount      mountOptions
	users      userList
	dir, point string // as given; point is empty for dir itself
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
	o.tpm, o.key = o.keys.TPM, o.keys.Path
	fs.Var(&o.mount, "o", "mount `OPTIONS`, comma-separated: "+strings.Join(optionForms, ", "))
	fs.Var(&o.users, "user", "`NAME[,NAME]` of the users who may open files, besides root (default the owner of DIR)")
	fs.Bool("fork", "go to the background once DIR is mounted; messages go to syslog then")
	operands, err := fs.Parse(args)
	if err != nil {
		return nil, err
	}
	o.dir, o.point = operands[0], operands[1]
	return o, nil
}

const usageNotes = `DIR contains the encrypted files. It is mounted over itself, or on MOUNTPOINT. The
command answers the kernel until DIR is unmounted (umount) or the command is
interrupted; then it unmounts DIR. If files are in use it names the processes and
continues until the files are closed. A second interruption detaches DIR at once:
open files still work, but no other file can be opened.

The first mount writes DIR.ecryptmount, beside DIR. It contains the settings and the
passphrase for file names, which only the TPM's key opens. Keep a copy of it and of
the key file. Without it the files can still be read, but their names are lost.

ecryptmount refuses a DIR with files that are not encrypted. -o ecryptfs_passthrough
shows them, and mounts DIR read-only unless -o rw is given, too: the kernel then also
shows the bytes of an encrypted file whose key it does not get, and writing to such a
file destroys it.

If DIR does not belong to root, it is mounted nosuid and nodev unless -o suid or
-o dev is given. The restrictions of the file system below stay in force.

One ecryptmount runs at a time. It shares the TPM with other programs, which may delay
it by at most -wait. The kernel waits for 3 seconds, or for 60 if ecryptmount loads the
kernel's module itself. Opening a file that is not in the kernel's cache costs one TPM
command; a new file costs none. If the TPM restarts, the key is loaded again.`
