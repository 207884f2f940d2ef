# A TPM 2.0 and its device: permissions, lockout and clearing.

# Another user may not use it; the error says who may.
#@ boot tpm=2.0
keygen ancienne
quiet certgen -key ancienne -out ancien.crt
! su marie -c 'keygen /home/marie/maclef'
expect 'open TPM /dev/tpmrm0: no permission'
expect 'run this as root'
! su marie -c 'tpmctl status'
expect 'no permission'

# It needs no owner.
! tpmctl own
expect 'ready for keys as it is'

# A wrong password costs exactly one try. Switching the machine off and on does not change
# the count.
keygen -a -key-pass pass:motdepasse secrete
! tpmctl sign -key secrete -key-pass pass:autre -in /etc/passwd
expect 'wrong key secret.*1 of 3 tries'
tpmctl sign -key secrete -key-pass pass:motdepasse -in /etc/passwd -out signature
#@ boot
tpmctl status
expect '1 of 3 tries used'

# After three wrong passwords the TPM refuses even the right one. Keys without a password
# still work.
! tpmctl sign -key secrete -key-pass pass:autre -in /etc/passwd
expect '2 of 3 tries'
! tpmctl sign -key secrete -key-pass pass:autre -in /etc/passwd
! tpmctl sign -key secrete -key-pass pass:motdepasse -in /etc/passwd
expect 'locked'
tpmctl status
expect 'lockout: +locked: 3 of 3'
tpmctl sign -key ancienne -in /etc/passwd -out signature -force
tpmctl reset-lockout -owner-pass wellknown
tpmctl sign -key secrete -key-pass pass:motdepasse -in /etc/passwd -out signature -force
tpmctl status
expect '0 of 3 tries used'

# Somebody clears the TPM while a server runs: the server reports that its key is lost. New
# keys can be made at once.
tlsdemo -key ancienne -cert ancien.crt -accept 4433 2>tlsdemo.log &
await 30 grep serving tlsdemo.log
curl --silent --show-error --cacert ancien.crt https://localhost:4433/ | grep 'TPM signed'
! tpmctl clear -owner-pass wellknown
expect '-yes'
tpmctl clear -yes -owner-pass wellknown
expect 'the TPM is cleared'
! curl --silent --show-error --cacert ancien.crt https://localhost:4433/
cat tlsdemo.log
expect 'not a key of this TPM'
quiet kill %1
! tpmctl sign -key ancienne -in /etc/passwd
expect 'not a key of this TPM \(TPM_RC_INTEGRITY'
expect 'cleared'
keygen nouvelle
tpmctl sign -key nouvelle -in /etc/passwd -out signature -force
tpmctl inspect ancienne

# Key files of the other generation are refused.
#@ boot chip=vieille tpm=1.2
quiet tpmctl own
keygen vieille
! tpmctl sign -key nouvelle -in /etc/passwd
expect 'TPM 2\.0'
#@ boot
! tpmctl sign -key vieille -in /etc/passwd
expect 'TPM 1\.2'
tpmctl inspect vieille
