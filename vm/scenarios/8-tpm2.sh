# # The tutorial, on a TPM 2.0
#
# Almost every machine sold since 2016 has a TPM 2.0. Its key files have another
# format, `TSS2 PRIVATE KEY`; the commands are those of [the tutorial](tutorial.md). This
# is their output on Debian's kernel, in a machine whose TPM 2.0 is swtpm.
#
# ## Do we have a TPM, and which?
#
# The kernel has two devices for it: /dev/tpm0, and /dev/tpmrm0 with the kernel's
# resource manager, which gives each program key slots of its own. The commands use
# /dev/tpmrm0.
#
#@ boot tpm=2.0 bus=crb
tpmctl status
expect '^device: +/dev/tpmrm0$'
expect 'driver: +tpm_crb'
expect 'family: +TPM 2\.0'

# ## Make a key
#
# A TPM 2.0 needs no owner. It makes the storage root key from its seed whenever the
# key is needed; the key is the same until somebody clears the TPM.
#
keygen maclef
head -n 1 maclef
expect 'BEGIN TSS2 PRIVATE KEY'
tpmctl inspect maclef

# ## Make a certificate
#
certgen -key maclef -out moncert
openssl x509 -in moncert -noout -subject -issuer
expect 'CN ?= ?localhost'

# ## Serve HTTPS
#
# This is TLS 1.3, which a TPM 1.2 cannot do.
#
tlsdemo -accept 4433 2>tlsdemo.log &
await 30 grep serving tlsdemo.log
curl --silent --show-error --retry 9 --retry-delay 1 --retry-connrefused --tlsv1.3 --cacert moncert https://localhost:4433/ | sed 6q
expect 'TPM signed for this connection'
expect 'TLS 1\.3'
expect 'rsa_pss_rsae_sha256'

# ## A key on an elliptic curve, with a password
#
# Two servers and other commands now use the TPM at the same time.
#
#> motdepasse
#> motdepasse
keygen -type p256 -a courbe
(umask 077; echo motdepasse >motdepasse)
certgen -key courbe -key-pass file:motdepasse -out courbe.crt
tlsdemo -key courbe -key-pass file:motdepasse -cert courbe.crt -accept 4434 2>tlsdemo2.log &
await 30 grep serving tlsdemo2.log
curl --silent --show-error --retry 9 --retry-delay 1 --retry-connrefused --tlsv1.3 --cacert courbe.crt https://localhost:4434/ | sed 6q
expect 'TPM signed for this connection'
expect 'ecdsa_(secp256r1_)?sha256'
echo bonjour >lettre.txt
tpmctl sign -key maclef -in lettre.txt -out lettre.sig
tpmctl pub -out maclef.pub maclef
openssl dgst -sha256 -verify maclef.pub -signature lettre.sig lettre.txt
curl --silent --show-error --retry 9 --retry-delay 1 --retry-connrefused --tlsv1.3 --cacert moncert https://localhost:4433/ | sed 1q
expect 'TPM signed for this connection'
kill %1 %2

# ## A key for one state of the machine
#
# The firmware, the boot loader and systemd measure what they start into the TPM's
# PCRs. With `-policy` a key works only while the chosen PCRs have their present
# values.
#
keygen -policy pcr:sha256:11 liee
tpmctl sign -key liee -in lettre.txt -out lettre.liee
# Something more is measured into PCR 11 (by hand, with TPM2_PCR_Extend).
quiet printf '\200\2\0\0\0\101\0\0\1\202\0\0\0\13\0\0\0\11\100\0\0\11\0\0\0\0\0\0\0\0\1\0\13inattendu-inattendu-inattendu-12' >/tmp/extend
quiet dd bs=4096 if=/tmp/extend of=/dev/tpmrm0
! tpmctl sign -key liee -in lettre.txt
expect 'PCR 11'

# ## After a reboot
#
# The chip and the key files are the same, and the machine is in the same state
# again.
#
#@ boot bus=crb
tlsdemo -accept 4433 2>tlsdemo.log &
await 30 grep serving tlsdemo.log
curl --silent --show-error --retry 9 --retry-delay 1 --retry-connrefused --tlsv1.3 --cacert moncert https://localhost:4433/ | sed 6q
expect 'TPM signed for this connection'
kill %1
tpmctl sign -key liee -in lettre.txt -out encore.liee

# ## A directory that opens with the TPM
#
# A key on an elliptic curve cannot do this, because it cannot encrypt.
#
mkdir /secret
ecryptmount -fork /secret
echo bonjour >/secret/lettre.txt
umount /secret
ls /secret
reject lettre
! grep -r bonjour /secret

# With the TPM it opens.
ecryptmount -fork /secret
cat /secret/lettre.txt
expect '^bonjour$'
umount /secret

# With another chip it does not.
#@ boot chip=second tpm=2.0
! ecryptmount -fork /secret
expect 'maclef: not a key of this TPM'
! tlsdemo -accept 4433
expect 'not a key of this TPM'
