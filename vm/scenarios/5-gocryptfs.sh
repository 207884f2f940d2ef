# # A gocryptfs directory that opens with the TPM
#
# [gocryptfs](https://nuetzlich.net/gocryptfs/) encrypts a directory for an
# ordinary user, through FUSE. It takes its password from the output of a
# command, and `tpmctl decrypt` is one: the password is random, and lies beside
# the directory encrypted for a key of the TPM.
#
# Make a key, and a password that nobody has seen. `encrypt` needs no TPM.
#@ boot
quiet tpmctl own
quiet modprobe fuse
keygen maclef
tpmctl random -hex 32 | tpmctl encrypt -key maclef -out password.bin

# Make the directory, and mount it.
mkdir secret clear
gocryptfs -q -init -extpass 'tpmctl decrypt -key maclef -in password.bin' secret
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

# Nor without a chip.
#@ boot chip=none
quiet modprobe fuse
! gocryptfs -q -extpass 'tpmctl decrypt -key maclef -in password.bin' secret clear
expect 'no TPM'
! mountpoint clear
