# # A gocryptfs directory that opens with the TPM
#
# [gocryptfs](https://nuetzlich.net/gocryptfs/) encrypts a directory for an
# ordinary user, through FUSE. It takes its password from the output of a
# command, and `tpmctl decrypt` is one: the password is random, and lies beside
# the directory encrypted for a key of the TPM.
#
# It is Debian's package gocryptfs, with fuse3. Own the TPM, if nobody does yet; where
# its SRK has a password, all later commands want `-srk-pass`.
#@ boot
#> le-proprietaire
#> le-proprietaire
tpmctl own -owner-pass prompt

# Make a key, and a password that nobody has seen. `encrypt` needs no TPM.
quiet modprobe fuse
keygen maclef
tpmctl random -hex 32 | tpmctl encrypt -key maclef -out password.bin

# Make the directory. Write the master key on paper, and put that in a safe: it opens
# the directory when the TPM is broken.
mkdir secret clear
#>
gocryptfs -init -extpass 'tpmctl decrypt -key maclef -in password.bin' secret
expect 'master key is'
quiet sh -c "grep -o -E '[0-9a-f-]{17,}' /tmp/.shown | tr -d '\\n' >papier"

# Mount it.
gocryptfs -q -extpass 'tpmctl decrypt -key maclef -in password.bin' secret clear
mountpoint clear
echo bonjour >clear/lettre.txt
mkdir clear/dossier
cp /usr/local/bin/* clear/dossier
fusermount3 -u clear

# The names and the contents are encrypted.
! grep -r bonjour secret
! find secret | grep -E 'lettre|dossier'

# After a reboot it opens again.
#@ boot
quiet modprobe fuse
gocryptfs -q -extpass 'tpmctl decrypt -key maclef -in password.bin' secret clear
mountpoint clear
cat clear/lettre.txt
expect '^bonjour$'
quiet diff -r /usr/local/bin clear/dossier
fusermount3 -u clear

# With another chip it does not. Look at the exit status: what is written into
# `clear` after a mount that failed is in the clear, in the directory below.
#@ boot chip=second
quiet modprobe fuse
quiet tpmctl own
! gocryptfs -q -extpass 'tpmctl decrypt -key maclef -in password.bin' secret clear
expect 'not a key of this TPM'
! mountpoint clear

# There the master key from the paper does.
gocryptfs -q -masterkey stdin secret clear <papier
cat clear/lettre.txt
expect '^bonjour$'
quiet fusermount3 -u clear

# Nor does it open without a chip.
#@ boot chip=none
quiet modprobe fuse
! gocryptfs -q -extpass 'tpmctl decrypt -key maclef -in password.bin' secret clear
expect 'no TPM'
! mountpoint clear

# ## On a TPM 2.0
#
# All of this works there, too; nobody needs to own it first. And it keeps the password
# without a key: `seal` and `unseal`. With `seal -policy pcr:sha256:7` it opens as
# long as the machine starts what it starts now.
#@ boot chip=modern tpm=2.0
quiet modprobe fuse
tpmctl random -hex 32 | tpmctl seal -out password.tpm
mkdir coffre clair
#>
gocryptfs -init -q -extpass 'tpmctl unseal -in password.tpm' coffre
gocryptfs -q -extpass 'tpmctl unseal -in password.tpm' coffre clair
mountpoint clair
echo bonsoir >clair/lettre.txt
fusermount3 -u clair
! grep -r bonsoir coffre

# After a reboot it opens again, and with another chip it does not.
#@ boot chip=modern
quiet modprobe fuse
gocryptfs -q -extpass 'tpmctl unseal -in password.tpm' coffre clair
cat clair/lettre.txt
expect '^bonsoir$'
quiet fusermount3 -u clair
#@ boot chip=another tpm=2.0
quiet modprobe fuse
! gocryptfs -q -extpass 'tpmctl unseal -in password.tpm' coffre clair
expect 'not a key of this TPM|made by another TPM'
! mountpoint clair
