# Many programs at once, other users, and a chip that takes a second for each command.

#@ boot
quiet tpmctl own
quiet keygen maclef
quiet mkdir /secret
quiet ecryptmount -key maclef -fork /secret
eight() {
	for p in 1 2 3 4 5 6 7 8; do
		(for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
			head -c 20000 /dev/urandom > /secret/$p-$i || exit 1
		done; echo $p >> /tmp/done) &
	done
	wait
	[ $(wc -l < /tmp/done) = 8 ]
}
eight
quiet sh -c 'cd /secret; md5sum * > /root/sums'
quiet sh -c 'echo 3 > /proc/sys/vm/drop_caches'
readers() {
	rm -f /tmp/done
	for p in 1 2 3 4 5 6 7 8; do
		(cd /secret && md5sum -c -s /root/sums && echo $p >> /tmp/done) &
	done
	wait
	[ $(wc -l < /tmp/done) = 8 ]
}
readers
umount /secret

# By default only root gets file keys.
#@ boot
quiet mkdir /secret/marie
quiet rmdir /secret/marie
quiet mkdir /partage
quiet chmod 1777 /partage
ecryptmount -key maclef -fork /partage
expect '/partage is mounted, for root;'
! su marie -c 'echo salut > /partage/salut'
expect 'Transport endpoint is not connected'
echo bonjour > /partage/bonjour
su marie -c 'cat /partage/bonjour'
quiet sh -c 'sync; echo 3 > /proc/sys/vm/drop_caches'
! su marie -c 'cat /partage/bonjour'
expect 'Input/output error'
umount /partage
await 10 sh -c '! pidof ecryptmount'
# -user names other users. The owner of the directory gets them, too.
ecryptmount -key maclef -fork -user marie /partage
expect '/partage is mounted, for root, marie;'
su marie -c 'echo salut > /partage/salut && cat /partage/salut'
expect '^salut$'
quiet sh -c 'echo 3 > /proc/sys/vm/drop_caches'
su marie -c 'cat /partage/salut'
expect '^salut$'
su marie -c 'ls -l /partage'
expect 'marie +marie .* salut$'
umount /partage
await 10 sh -c '! pidof ecryptmount'
quiet mkdir /home/marie/prive
quiet chown marie /home/marie/prive
ecryptmount -key maclef -fork /home/marie/prive
expect 'is mounted, for root, marie;'
su marie -c 'echo a moi > ~/prive/lettre; cat ~/prive/lettre'
expect '^a moi$'
umount /home/marie/prive

# A chip that takes a second for each command. The module was loaded with its default
# timeout of three seconds: ecryptmount loads it again with a longer one.
#@ boot slow=1s for=6m
quiet modprobe ecryptfs
ecryptmount -key maclef -fork /secret
expect 'the TPM takes [1-9]\.[0-9] s to unwrap the key of a file; the module ecryptfs was reloaded and now waits for up to 1m0s'
time cat /secret/1-1 > /dev/null
four() {
	rm -f /tmp/done
	for p in 1 2 3 4; do
		(cd /secret; grep "  $p-[12]$" /root/sums | md5sum -c -s && echo $p >> /tmp/done) &
	done
	wait
	[ "$(cat /tmp/done | wc -l)" = 4 ]
}
four
umount /secret
await 20 sh -c '! pidof ecryptmount'

# If the module is in use, it cannot be loaded again; ecryptmount says so. It keeps keys
# that came too late for the kernel, so that the next try gets them at once.
quiet rmmod ecryptfs
quiet modprobe ecryptfs
quiet sh -c 'sleep 1; chmod 666 /dev/ecryptfs'
quiet sh -c "su marie -c 'sleep 600 < /dev/ecryptfs' &"
quiet sleep 1
quiet syslogd -O /tmp/messages
ecryptmount -key maclef -fork /secret
expect 'the kernel gives up after 3s if the module ecryptfs was loaded as usual'
expect 'options ecryptfs ecryptfs_message_wait_timeout=[6-9][0-9]'
! four
expect 'Input/output error'
quiet sleep 10
await 30 four
umount /secret
await 20 sh -c '! pidof ecryptmount'
grep -c 'came too late for the kernel' /tmp/messages
