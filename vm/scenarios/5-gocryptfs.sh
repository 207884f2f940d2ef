# # A gocryptfs directory that opens with the TPM
#
# [gocryptfs](https://nuetzlich.net/gocryptfs/) encrypts a directory for an
# ordinary user, through FUSE. It can read its password from the output of a
# command, here `tpmctl decrypt`. The password is random. A file beside the
# directory contains it, encrypted for a key of the TPM. `-scryptn 10` saves time: slow
# hashes protect weak passwords, and this one is strong.
#
# Install Debian's packages: `apt install gocryptfs fuse3`. Take ownership of a TPM 1.2
# if it has no owner; a TPM 2.0 needs none. If the SRK has a password, all later commands
# need `-srk-pass`.
#@ boot
#> le-proprietaire
#> le-proprietaire
tpmctl own -owner-pass prompt

# Make a key, and a password that nobody has seen. `encrypt` needs no TPM.
quiet modprobe fuse
keygen maclef
tpmctl random -hex 32 | tpmctl encrypt -key maclef -out password.bin

# Make the directory. Write the master key on paper, and keep that in a safe: it opens
# the directory if the TPM breaks.
mkdir secret clear
#>
gocryptfs -init -scryptn 10 -extpass 'tpmctl decrypt -key maclef -in password.bin' secret
expect 'master key is'
quiet sh -c "grep -o -E '[0-9a-f-]{17,}' /tmp/.shown | tr -d '\\n' >papier"

# Mount it.
gocryptfs -q -extpass 'tpmctl decrypt -key maclef -in password.bin' secret clear
mountpoint clear
echo bonjour >clear/lettre.txt
mkdir clear/dossier
cp -r /etc clear/dossier
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
quiet diff -r /etc clear/dossier/etc
fusermount3 -u clear

# With another chip it does not open. Check the exit status: if the mount failed,
# files that you write into `clear` are not encrypted.
#@ boot chip=second
quiet modprobe fuse
quiet tpmctl own
! gocryptfs -q -extpass 'tpmctl decrypt -key maclef -in password.bin' secret clear
expect 'not a key of this TPM'
! mountpoint clear

# The master key from the paper opens it there.
gocryptfs -q -masterkey stdin secret clear <papier
cat clear/lettre.txt
expect '^bonjour$'
quiet fusermount3 -u clear

# Without a chip it does not open either.
#@ boot chip=none
quiet modprobe fuse
! gocryptfs -q -extpass 'tpmctl decrypt -key maclef -in password.bin' secret clear
expect 'no TPM'
! mountpoint clear

# ## On a TPM 2.0
#
# All of this works there, too, and the TPM needs no owner. A TPM can also seal the
# password, which needs no key: `seal` and `unseal`. With `seal -policy pcr:sha256:7` it
# opens only while the machine starts the same software.
#@ boot chip=modern tpm=2.0
quiet modprobe fuse
tpmctl random -hex 32 | tpmctl seal -out password.tpm
mkdir coffre clair
#>
gocryptfs -init -scryptn 10 -q -extpass 'tpmctl unseal -in password.tpm' coffre
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
