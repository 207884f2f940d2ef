# What can happen to the device and its chip in their life.

# Another user may not use it, and is told who may.
#@ boot
tpmctl own -owner-pass pass:chef
keygen ancienne
certgen -key ancienne -out ancien.crt
! su marie -c 'keygen /home/marie/maclef'
expect 'open TPM /dev/tpm0: no permission'
expect 'run this as root'
! su marie -c 'tpmctl status'
expect 'tpm_tis'
expect 'no permission'

# A server does not keep it from others. (7-sharing has programs that do.)
tlsdemo -key ancienne -cert ancien.crt -accept 4433 2>tlsdemo.log &
await 30 grep serving tlsdemo.log
keygen autre
tpmctl status
expect 'held by: +nobody'
expect 'key slots: +20 of 20 free'
expect 'loaded: +nothing'
quiet kill %1
quiet wait

# The owner can switch it off and on.
tpmctl disable -owner-pass pass:chef
tpmctl status -json
expect '"enabled": false'
expect '"driver": "tpm_tis"'
! keygen troisieme
expect 'disabled'
tpmctl enable -owner-pass pass:chef
quiet keygen troisieme
! tpmctl deactivate
expect 'deactivate the TPM: physical presence is needed'

# Ownership is taken once.
! tpmctl own
expect 'has an owner already'

# A wrong owner password costs a try, and clears nothing. Without a terminal the
# command wants to be sure.
! tpmctl clear -owner-pass pass:chef
expect '-yes'
! tpmctl clear -yes -owner-pass pass:wrong
expect 'wrong owner secret'
expect '1 of 5 tries'
tpmctl reset-lockout -owner-pass pass:chef
tpmctl status
expect '0 of 5 tries'

# Physical presence is what the firmware has locked before Linux started.
! tpmctl clear -yes -force
expect 'physical presence is needed'
expect "hint: restart the machine, enter the firmware's \(BIOS\) setup"

# The owner may clear the chip. It is disabled and deactivated then, also after
# a reboot: only the firmware's menu brings it back.
tpmctl clear -yes -owner-pass pass:chef
expect 'the TPM is cleared: it has no owner, and is disabled and deactivated'
! keygen nouvelle
expect 'disabled'

#@ boot
tpmctl status
expect 'enabled: *no'
expect 'active: *no'
! tpmctl own
expect 'take ownership: the TPM is disabled: .*physical presence is needed'
expect "hint: restart the machine, enter the firmware's \(BIOS\) setup.*then run tpmctl own again"
! tlsdemo -key ancienne -cert ancien.crt -accept 4433
expect 'disabled'

# Somebody enables it there. That is half of it.
#@ firmware keys=e
#@ boot
tpmctl status
expect 'enabled: *yes'
expect 'active: *no'
! tpmctl own
expect 'take ownership: the TPM is deactivated: .*physical presence is needed'

# And activates it. Now own goes on.
#@ firmware keys=a
#@ boot
tpmctl own -owner-pass pass:chef
keygen nouvelle

# The old key file was made under the storage root key that is gone.
! tpmctl sign -key ancienne -in /etc/passwd
expect 'not a key of this TPM'
expect 'cleared'
tpmctl inspect ancienne
