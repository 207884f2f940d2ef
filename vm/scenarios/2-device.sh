# A TPM 1.2 and its device: permissions, ownership, switching off and clearing.

# Another user may not use it; the error says who may.
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

# A running server does not lock out other programs. (7-sharing has programs that do.)
tlsdemo -key ancienne -cert ancien.crt -accept 4433 2>tlsdemo.log &
await 30 grep serving tlsdemo.log
keygen autre
tpmctl status
expect 'held by: +nobody'
expect 'key slots: +20 of 20 free'
expect 'loaded: +nothing'
quiet kill %1
quiet wait

# The owner can disable and enable it.
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

# It can have only one owner.
! tpmctl own
expect 'has an owner already'

# A wrong owner password costs a try, and clears nothing. Without a terminal the
# command needs -yes.
! tpmctl clear -owner-pass pass:chef
expect '-yes'
! tpmctl clear -yes -owner-pass pass:wrong
expect 'wrong owner secret'
expect '1 of 5 tries'
tpmctl reset-lockout -owner-pass pass:chef
tpmctl status
expect '0 of 5 tries'

# The firmware has locked physical presence before Linux started.
! tpmctl clear -yes -force
expect 'physical presence is needed'
expect "hint: restart the machine, enter the firmware's \(BIOS\) setup"

# The owner may clear the chip. Then it is disabled and deactivated, also after a
# reboot. Only the firmware's menu can enable it.
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

# Somebody enables it there. It is still deactivated.
#@ firmware keys=e
#@ boot
tpmctl status
expect 'enabled: *yes'
expect 'active: *no'
! tpmctl own
expect 'take ownership: the TPM is deactivated: .*physical presence is needed'

# Somebody activates it. Now own works.
#@ firmware keys=a
#@ boot
tpmctl own -owner-pass pass:chef
keygen nouvelle

# The old key file belongs to the previous storage root key.
! tpmctl sign -key ancienne -in /etc/passwd
expect 'not a key of this TPM'
expect 'cleared'
tpmctl inspect ancienne
