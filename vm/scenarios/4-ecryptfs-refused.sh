# Errors that ecryptmount finds before it mounts a directory. The kernel would only report
# "Input/output error" for the first file.

#@ boot
quiet tpmctl own
quiet keygen maclef
quiet keygen autre
quiet mkdir /secret
quiet ecryptmount -key maclef -fork /secret
quiet sh -c 'echo bonjour > /secret/lettre.txt'

# A second ecryptmount while the first one runs.
! ecryptmount -key maclef /secret
expect '/secret is mounted already, by ecryptmount \(process [0-9]+\)'
quiet mkdir /other
! ecryptmount -key maclef /other
expect 'ecryptmount \(process [0-9]+\) is already the eCryptfs daemon of the user root.*mounted now: /secret'
expect 'hint: .*mount --bind'
! ls /other.ecryptmount
umount /secret
await 10 sh -c '! pidof ecryptmount'

# Another key.
! ecryptmount -key autre /secret
expect '/secret was set up with another key than autre'
# Another key, without a record.
quiet mv /secret.ecryptmount /root/kept
! ecryptmount -key autre -o ecryptfs_enable_filename_crypto=n /secret
expect 'was encrypted for the key [0-9a-f]{16}, and this key is [0-9a-f]{16}: it could not be opened'

# Without the record the names are lost, but not the contents.
! ecryptmount -key maclef /secret
expect 'has an encrypted name, and /secret.ecryptmount, which has the passphrase for it, is not there'
ecryptmount -key maclef -fork -o ecryptfs_enable_filename_crypto=n,ro /secret
cat /secret/ECRYPTFS_FNEK_ENCRYPTED.*
expect '^bonjour$'
umount /secret
await 10 sh -c '! pidof ecryptmount'
quiet mv /root/kept /secret.ecryptmount

# Options that contradict the record, and unknown options.
! ecryptmount -key maclef -o ecryptfs_key_bytes=16 /secret
expect 'was set up with ecryptfs_key_bytes=32, not 16'
! ecryptmount -key maclef -o ecryptfs_enable_filename_crypto=n /secret
expect 'was set up with ecryptfs_enable_filename_crypto=y'
!2 ecryptmount -key maclef -o ecryptfs_magic=1 /secret
expect 'unknown mount option "ecryptfs_magic=1"'

# Files that are not encrypted.
mkdir /plain
echo salut > /plain/salut.txt
! ecryptmount -key maclef /plain
expect '/plain/salut.txt has a name that is not encrypted, and would be hidden'
! ecryptmount -key maclef -o ecryptfs_enable_filename_crypto=n /plain
expect '/plain/salut.txt is not encrypted, and could not be opened'
ecryptmount -key maclef -fork -o ecryptfs_enable_filename_crypto=n,ecryptfs_passthrough,rw /plain
expect 'whoever writes to a file whose key the kernel does not get .* destroys it'
cat /plain/salut.txt
expect '^salut$'
echo bonjour > /plain/bonjour.txt
umount /plain
await 10 sh -c '! pidof ecryptmount'
# The record contains the options.
ecryptmount -key maclef -fork /plain
expect '/plain is mounted read-only because of ecryptfs_passthrough'
cat /plain/salut.txt /plain/bonjour.txt
expect '^bonjour$'
! touch /plain/neuf
expect 'Read-only file system'
umount /plain
await 10 sh -c '! pidof ecryptmount'

# A file with a damaged key does not affect other files.
quiet sh -c 'f=$(ls /secret/ECRYPTFS*); cp "$f" /root/kept; printf damaged! | dd of="$f" bs=1 seek=100 conv=notrunc 2>/dev/null'
ecryptmount -key maclef -fork /secret
expect '1 file cannot be opened, because the eCryptfs header is damaged: /secret/ECRYPTFS'
! cat /secret/lettre.txt
umount /secret
await 10 sh -c '! pidof ecryptmount'
quiet sh -c 'f=$(ls /secret/ECRYPTFS*); cp /root/kept "$f"'

# A user who is not root; keys that are too small or cannot decrypt.
! su marie -c 'ecryptmount -key maclef /secret'
expect 'only root may mount'
quiet keygen -s 512 petite
! ecryptmount -key petite /other
expect 'petite.*(512|small)'
tpmctl status
expect 'key slots: +20 of 20 free'

# The disk in a machine with another chip.
#@ boot chip=other
quiet tpmctl own
! ecryptmount -key maclef /secret
expect 'load maclef: not a key of this TPM'
! grep ' /secret ' /proc/mounts

# The disk in a machine without a chip.
#@ boot chip=none
! ecryptmount -key maclef /secret
expect 'no /dev/tpm0|no TPM'
! grep ' /secret ' /proc/mounts
