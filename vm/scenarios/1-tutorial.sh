# # The tutorial of 2010, today
#
# A TPM keeps the private key of a web site; a key file, a certificate and a
# server make HTTPS of it; and a directory opens with that key only. What was
# typed then stands above what is typed now, with what that printed: on Debian's
# kernel, in a machine whose TPM 1.2 is swtpm.
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

# ## Own it
#
# A TPM makes its storage root key (SRK) when somebody becomes its owner. The
# tutorial gave the owner a password, and pressed Enter for the SRK's: so every
# later command says `-srk-pass pass:`, which is the empty password. A TPM that is
# disabled or deactivated, as many are delivered, needs a visit to the firmware's
# menu first; `own` says what to do there, and goes on when it is run again.
#
#< tpm_takeownership
#> le-proprietaire
#> le-proprietaire
tpmctl own -owner-pass prompt -srk-pass pass:
expect 'has an owner now'

# ## Make a key
#
# The private key is made inside the chip. The file is of no use without it.
# With `-a` the key has a password of its own besides.
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
# A server has nobody to ask for passwords; here a file has the key's, the one that
# `keygen -a` was given. What the server says is in tlsdemo.log. While it is idle it
# leaves the TPM to other programs, and has nothing in it.
#
#< openssl s_server -keyform engine -engine tpm -key maclef -cert moncert -accept 4433 -WWW
(umask 077; echo motdepasse >motdepasse)
tlsdemo -srk-pass pass: -key-pass file:motdepasse -accept 4433 2>tlsdemo.log &
await 30 grep serving tlsdemo.log
curl --silent --show-error --retry 9 --retry-connrefused --cacert moncert https://localhost:4433/ | sed 6q
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
curl --silent --show-error --retry 9 --retry-connrefused --cacert moncert https://localhost:4433/ | sed 6q
expect 'TPM signed for this connection'
kill %1

# ## A directory that opens with the TPM
#
# The tutorial ended with a directory of eCryptfs, encrypted for the key. From the
# key file itself that never worked: the key module of eCryptfs could not read it.
#
#< modprobe ecryptfs
#< ecryptfsd
#< mount -t ecryptfs -o key=openssl:keyfile=maclef,ecryptfs_cipher=aes,ecryptfs_key_bytes=32 /secret /secret
mkdir /secret
ecryptmount -srk-pass pass: -key-pass file:motdepasse -o ecryptfs_cipher=aes,ecryptfs_key_bytes=32 -fork /secret
echo bonjour >/secret/lettre.txt
umount /secret

# Without the TPM there is nothing to read, not even a name.
ls /secret
reject lettre
! grep -r bonjour /secret

# With it there is.
ecryptmount -srk-pass pass: -key-pass file:motdepasse -fork /secret
cat /secret/lettre.txt
expect '^bonjour$'
umount /secret
