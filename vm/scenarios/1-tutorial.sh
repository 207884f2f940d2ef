# # The tutorial of 2010, today
#
# A TPM keeps the private key of a web site. A key file, a certificate and a server
# make HTTPS of it, and a directory can be opened only with that key. Each section
# shows the commands of 2010, then today's commands and their output, on Debian's
# kernel in a machine with swtpm as its TPM 1.2.
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
# tutorial gave the owner a password, and the SRK the empty one (Enter). So all
# later commands need `-srk-pass pass:`, the empty password. Many TPMs are
# delivered disabled or deactivated. Then `own` says what to do in the firmware's
# menu; run it again afterwards.
#
#< tpm_takeownership
#> le-proprietaire
#> le-proprietaire
tpmctl own -owner-pass prompt -srk-pass pass:
expect 'has an owner now'

# ## Make a key
#
# The chip makes the private key. The key file is useless without the chip. With
# `-a` the key also has its own password.
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
# A server cannot ask for passwords, so here a file contains the key's password. The
# server's messages go to tlsdemo.log. While the server is idle, other programs can
# use the TPM, and nothing is loaded in it.
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
# The same chip and the same key file still work.
#
#@ boot
tlsdemo -srk-pass pass: -key-pass file:motdepasse -accept 4433 2>tlsdemo.log &
await 30 grep serving tlsdemo.log
curl --silent --show-error --retry 9 --retry-connrefused --cacert moncert https://localhost:4433/ | sed 6q
expect 'TPM signed for this connection'
kill %1

# ## A directory that opens with the TPM
#
# The tutorial ended with an eCryptfs directory, encrypted for the key. With the key
# file this never worked: the key module of eCryptfs could not read the file.
#
#< modprobe ecryptfs
#< ecryptfsd
#< mount -t ecryptfs -o key=openssl:keyfile=maclef,ecryptfs_cipher=aes,ecryptfs_key_bytes=32 /secret /secret
mkdir /secret
ecryptmount -srk-pass pass: -key-pass file:motdepasse -o ecryptfs_cipher=aes,ecryptfs_key_bytes=32 -fork /secret
echo bonjour >/secret/lettre.txt
umount /secret

# Without the TPM nothing can be read, not even the names.
ls /secret
reject lettre
! grep -r bonjour /secret

# With the TPM it can be read.
ecryptmount -srk-pass pass: -key-pass file:motdepasse -fork /secret
cat /secret/lettre.txt
expect '^bonjour$'
umount /secret
