# A key file is made.
#@ boot
tpmctl own
keygen maclef
certgen -key maclef -out moncert

# The disk goes into a machine with another chip, which nobody owns.
#@ boot chip=second
! tlsdemo -accept 4433
expect 'no owner'
expect 'tpmctl own'

# Owned or not, it has another storage root key.
tpmctl own
! tlsdemo -accept 4433
expect 'maclef: not a key of this TPM'
expect 'made by another TPM'
! certgen -key maclef -out autre.crt
quiet test ! -e autre.crt

# Commands that need no chip still work.
tpmctl inspect maclef
tpmctl pub maclef
echo bonjour | tpmctl encrypt -key maclef -out secret.bin

# A machine without a TPM.
#@ boot chip=none
! tpmctl status
expect 'no TPM'
expect "no TPM.*switch the TPM on in the firmware's settings"
! tlsdemo -accept 4433
expect 'no TPM'
tpmctl inspect maclef

# In the first machine everything still works.
#@ boot
tpmctl decrypt -key maclef -in secret.bin
expect 'bonjour'

# A machine with a TPM 2.0: the commands use the resource manager. They refuse the key
# file of a TPM 1.2.
#@ boot chip=modern tpm=2.0
tpmctl status
expect '^device: +/dev/tpmrm0$'
expect 'TPM 2\.0'
! tlsdemo -accept 4433
expect 'maclef: .*the file is for a TPM 1\.2, and this is a TPM 2\.0'
