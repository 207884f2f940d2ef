# An eCryptfs directory that only this machine's TPM can open, with a key file: the last
# chapter of the tutorial.

#@ boot
quiet tpmctl own
quiet keygen maclef
#< modprobe ecryptfs
#< ecryptfsd
#< mount -t ecryptfs -o key=openssl:keyfile=maclef,ecryptfs_cipher=aes,ecryptfs_key_bytes=32 /secret /secret
mkdir /secret
ecryptmount -key maclef -fork -o ecryptfs_cipher=aes,ecryptfs_key_bytes=32 /secret
expect '/secret is mounted, for root; umount /secret ends that'
expect '/secret.ecryptmount is new: keep a copy of it'
echo bonjour > /secret/lettre.txt
cat /secret/lettre.txt
expect '^bonjour$'

# A tree of 80 files, of all sizes up to 80 kB.
tree() {
	for d in a b c d; do
		mkdir -p /secret/tree/$d
		for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
			head -c $((i * i * 200)) /dev/urandom > "/secret/tree/$d/file number $i"
		done
	done
}
quiet tree
quiet ln -s ../lettre.txt /secret/tree/link
quiet sh -c "cd /secret && find . -type f -exec md5sum {} + > /root/sums"
find /secret -type f | wc -l
expect '^81$'
umount /secret
await 10 sh -c '! pidof ecryptmount'

# In the encrypted directory neither names nor contents can be read.
ls /secret
reject 'lettre|tree'
find /secret -mindepth 1 ! -name 'ECRYPTFS_FNEK_ENCRYPTED.*'
reject .
! grep -r bonjour /secret
find /secret -type f | wc -l
expect '^81$'
ls -l /secret.ecryptmount
expect '^-rw-------'

# Mounted again, everything is as before. Each file takes one TPM command, unless the
# kernel still has its key.
quiet sh -c 'sync; echo 3 > /proc/sys/vm/drop_caches'
quiet syslogd -O /tmp/messages
ecryptmount -key maclef -fork /secret
cat /secret/lettre.txt /secret/tree/link
cd /secret && md5sum -c -s /root/sums
quiet md5sum -c -s /root/sums
quiet cd /root
umount /secret
await 10 grep -q 'unwrapped by the TPM' /tmp/messages
tail -n 1 /tmp/messages
expect '0 file keys wrapped, 81 file keys unwrapped by the TPM'
# Nothing stays: no token in a keyring, no key in the TPM.
! grep -E ' user +[0-9a-f]{16}: ' /proc/keys
tpmctl status
expect 'key slots: +([0-9]+) of \1 free|key slots: +20 of 20 free'

# After a reboot, too.
#@ boot
ecryptmount -key maclef -fork /secret
cat /secret/lettre.txt
expect '^bonjour$'
cd /secret && md5sum -c -s /root/sums
cd /root
umount /secret
await 10 sh -c '! pidof ecryptmount'

# In the foreground it runs until it is interrupted.
ecryptmount -key maclef /secret >log 2>&1 &
await 20 grep 'is mounted' log
kill %1
wait
cat log
expect '0 file keys wrapped, 0 file keys unwrapped by the TPM'
! grep ' /secret ' /proc/mounts
