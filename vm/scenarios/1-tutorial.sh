# # The tutorial of 2010, today
#
# The tutorial of 2010 keeps the private key of a web site in a TPM, serves HTTPS
# with it, and encrypts a directory for it. Each step shows the command of 2010, then
# today's command with its output. The machine runs Debian's kernel, and its TPM 1.2
# is swtpm.
#
# Nearly every machine has a TPM 2.0 instead, which needs no owner:
# [tpm2.md](tpm2.md) is this page for it. [tpm12.md](tpm12.md) says how to get a
# software TPM 1.2 without an owner, to follow this page.
#
# ## Do we have a TPM, and which?
#
#< modprobe tpm_tis
#< tcsd
#< tpm_version
#@ boot
tpmctl status
expect 'tpm0'
expect 'driver: *tpm_tis'
expect '1\.2'
expect 'owned: *no'

# ## Take ownership
#
# A TPM makes its storage root key (SRK) when somebody takes ownership. The tutorial
# set a password for the owner and an empty one for the SRK, so every later command
# needs `-srk-pass pass:` (the empty password). Many TPMs are delivered disabled or
# deactivated. Then `own` says what to do in the firmware's menu; run it again
# afterwards.
#
#< tpm_takeownership
#> le-proprietaire
#> le-proprietaire
tpmctl own -owner-pass prompt -srk-pass pass:
expect 'has an owner now'

# ## Make a key
#
# The private key is made inside the chip. The file is of no use without it.
# With `-a` the key has its own password, too.
#
#< create_tpm_key -a maclef
#> motdepasse
#> motdepasse
keygen -a -srk-pass pass: maclef
head -n 1 maclef
expect 'BEGIN TSS KEY BLOB'

# ## Make a certificate
#
#< openssl req -keyform engine -engine tpm -key maclef -new -x509 -days 365 -out moncert
#> motdepasse
certgen -srk-pass pass: -key maclef -out moncert
openssl x509 -in moncert -noout -subject -issuer
expect 'CN ?= ?localhost'

# ## Serve HTTPS
#
# A server cannot ask for a password, so this one reads the key's password from a
# file. Its messages go to tlsdemo.log. While it is idle it has nothing loaded in the
# TPM, and other programs can use the TPM.
#
#< openssl s_server -keyform engine -engine tpm -key maclef -cert moncert -accept 4433 -WWW
(umask 077; echo motdepasse >motdepasse)
tlsdemo -srk-pass pass: -key-pass file:motdepasse -accept 4433 2>tlsdemo.log &
await 30 grep serving tlsdemo.log
curl --silent --show-error --retry 9 --retry-delay 1 --retry-connrefused --cacert moncert https://localhost:4433/ | sed 6q
expect 'TPM signed for this connection'
tpmctl status | grep -E '^(held by|key slots|loaded):'
expect 'held by: *nobody'
expect 'key slots: +20 of 20 free'
expect 'loaded: +nothing'
kill %1

# ## After a reboot
#
# The chip is the same, and so is the key file.
#
#@ boot
tlsdemo -srk-pass pass: -key-pass file:motdepasse -accept 4433 2>tlsdemo.log &
await 30 grep serving tlsdemo.log
curl --silent --show-error --retry 9 --retry-delay 1 --retry-connrefused --cacert moncert https://localhost:4433/ | sed 6q
expect 'TPM signed for this connection'
kill %1

# ## A directory that opens with the TPM
#
# The tutorial ended with an eCryptfs directory that was encrypted for the key. But
# the key module of eCryptfs could not read the key file, so this never worked.
#
#< modprobe ecryptfs
#< ecryptfsd
#< mount -t ecryptfs -o key=openssl:keyfile=maclef,ecryptfs_cipher=aes,ecryptfs_key_bytes=32 /secret /secret
mkdir /secret
ecryptmount -srk-pass pass: -key-pass file:motdepasse -o ecryptfs_cipher=aes,ecryptfs_key_bytes=32 -fork /secret
echo bonjour >/secret/lettre.txt
umount /secret

# Without the TPM nobody can read the files or their names.
ls /secret
reject lettre
! grep -r bonjour /secret

# With the TPM you can.
ecryptmount -srk-pass pass: -key-pass file:motdepasse -fork /secret
cat /secret/lettre.txt
expect '^bonjour$'
umount /secret
