# ecryptmount is killed while files are written: nothing that was synced is lost, and all
# files can be read afterwards.

#@ boot for=12m
quiet tpmctl own
quiet keygen maclef
quiet mkdir /secret
ecryptmount -key maclef -fork /secret
writer() {
	i=0
	while [ $i -lt 200 ]; do
		i=$((i + 1))
		echo "file $i: $(head -c 3000 /dev/urandom | md5sum)" > /secret/$i || continue
		sync /secret/$i && echo $i >> /root/synced && cp /secret/$i /root/copy-$i
	done
}
writer 2> /tmp/writer.log &
quiet sh -c 'until [ $(wc -l < /root/synced) -ge 60 ]; do sleep 0.1; done 2>/dev/null'
kill -9 $(pidof ecryptmount)
wait
# Without it no new file can be made: the kernel cannot ask for a key.
tail -n 1 /tmp/writer.log
expect 'Transport endpoint is not connected|Input/output error|Socket not connected|not connected'
# New files need no TPM command, so it had loaded nothing.
tpmctl status
expect 'loaded: +nothing'

# The next run finds the mount without a process.
ecryptmount -key maclef -fork /secret
expect 'was still mounted by an ecryptmount that was killed; it is unmounted now'
check() {
	for i in $(cat /root/synced); do cmp /secret/$i /root/copy-$i || return 1; done
	cat /secret/* > /dev/null
}
wc -l < /root/synced
quiet sh -c 'echo 3 > /proc/sys/vm/drop_caches'
check
echo more > /secret/more
cat /secret/more
expect '^more$'

# Killed while files are open: they stay open, and the next run serves the same mount.
exec 5< /secret/1
kill -9 $(pidof ecryptmount)
await 5 sh -c '! pidof ecryptmount'
ecryptmount -key maclef -fork /secret
expect 'is in use by .*: it stays mounted, and is served again'
echo again > /secret/again
quiet sh -c 'echo 3 > /proc/sys/vm/drop_caches'
check
exec 5<&-
umount /secret
await 10 sh -c '! pidof ecryptmount'
tpmctl status
expect 'key slots: +20 of 20 free'

# Killed during a TPM command, it leaves its key in the chip. That disturbs no other
# program; tpmctl flush frees it. The reader waits for a minute until the kernel gives up:
# before, the kernel would pass an unread request to the next ecryptmount, and the reader
# would get its answer.
reader() {
	while true; do
		echo 3 > /proc/sys/vm/drop_caches
		cat /secret/* || return
	done
}
left() { # kills it during a turn, until it leaves something in the chip
	for i in 1 2 3 4 5 6 7 8; do
		ecryptmount -key maclef -fork /secret || return
		reader > /dev/null 2>&1 &
		until kill -STOP $(pidof ecryptmount) && ls -l /proc/$(pidof ecryptmount)/fd | grep -q /dev/tpm0; do
			kill -CONT $(pidof ecryptmount)
			sleep 0.1
		done
		kill -9 $(pidof ecryptmount)
		wait # the reader gets an error when the kernel gives up
		tpmctl status | grep 'left behind' && return
	done
	return 1
}
left
expect 'left behind: +1 key( and [0-9] sessions?)?: tpmctl flush frees'
ecryptmount -key maclef -fork /secret
quiet sh -c 'echo 3 > /proc/sys/vm/drop_caches'
check
tpmctl flush
expect '^freed 1 key'
tpmctl flush
expect '^nothing was left behind'
quiet sh -c 'echo 3 > /proc/sys/vm/drop_caches'
check
umount /secret
await 10 sh -c '! pidof ecryptmount'
tpmctl status
expect 'key slots: +20 of 20 free'
expect 'loaded: +nothing'

# Mounted in other places, too: all are unmounted.
quiet mkdir /b
quiet ecryptmount -key maclef -fork /secret
mount --bind /secret /b
kill -9 $(pidof ecryptmount)
await 5 sh -c '! pidof ecryptmount'
ecryptmount -key maclef -fork /secret
expect '/b, /secret was still mounted by an ecryptmount that was killed; it is unmounted now'
! grep ' /b ' /proc/mounts

# Detached while a file is open, then killed: no new mount as long as the file is open.
exec 5< /secret/1
umount -l /secret
kill -9 $(pidof ecryptmount)
await 5 sh -c '! pidof ecryptmount'
! ecryptmount -key maclef -fork /secret
expect 'in use although it is not mounted here'
exec 5<&-
ecryptmount -key maclef -fork /secret
quiet cat /secret/again /secret/more
umount /secret

# Mounted on another directory.
quiet mkdir /m1 /m2
quiet ecryptmount -key maclef -fork /secret /m1
exec 5< /m1/1
kill -9 $(pidof ecryptmount)
await 5 sh -c '! pidof ecryptmount'
! ecryptmount -key maclef -fork /secret /m2
expect '/secret is mounted on /m1 by an ecryptmount that was killed, and in use by'
expect 'hint: serve it there: run ecryptmount with the same flags and /secret /m1'
exec 5<&-
ecryptmount -key maclef -fork /secret /m2
expect '/m1 was still mounted'
quiet cat /m2/again
umount /m2
await 10 sh -c '! pidof ecryptmount'

#@ boot
ecryptmount -key maclef -fork /secret
quiet cat /secret/again /secret/more
cat /secret/* | wc -c
check() {
	for i in $(cat /root/synced); do cmp /secret/$i /root/copy-$i || return 1; done
}
check
umount /secret
