# eCryptfs with keys of all kinds, and all ways to mount and unmount.

#@ boot for=5m
quiet tpmctl own
quiet keygen -e oaep oaep
quiet keygen -a -key-pass pass:motdepasse secrete
quiet keygen -e oaep -a -key-pass pass:motdepasse -s 1024 petite
quiet mkdir /a /b /c
round() { # directory, mount point, arguments
	dir=$1 point=$2
	shift 2
	ecryptmount -fork "$@" $dir $point || return
	echo bonjour > ${point:-$dir}/un || return
	umount ${point:-$dir}
	while pidof ecryptmount > /dev/null; do sleep 1; done
	echo 3 > /proc/sys/vm/drop_caches
	ecryptmount -fork "$@" $dir $point && cat ${point:-$dir}/un && umount ${point:-$dir}
	while pidof ecryptmount > /dev/null; do sleep 1; done
}
quiet mkdir -p /mnt/b
# An OAEP key; a key with a secret, mounted on another directory; a small OAEP key with a
# secret and shorter file keys.
round /a '' -key oaep
expect '^bonjour$'
round /b /mnt/b -key secrete -key-pass pass:motdepasse
expect '/mnt/b is mounted'
expect '^bonjour$'
round /c '' -key petite -key-pass pass:motdepasse -o ecryptfs_key_bytes=16
expect '^bonjour$'
quiet mkdir /d
round /d '' -key oaep -o ecryptfs_key_bytes=24
expect '^bonjour$'
! ecryptmount -key secrete -key-pass pass:faux -fork /b /mnt/b
expect 'wrong key secret'
! grep ' /mnt/b ' /proc/mounts
# The background process does not show a secret of the command line.
quiet ecryptmount -key secrete -key-pass pass:motdepasse -fork /b /mnt/b
tr '\0' ' ' </proc/$(pidof ecryptmount)/cmdline
expect '^ecryptmount -key secrete'
reject motdepasse
umount /mnt/b
# The command asks for the secret before it goes to the background.
typing 'ecryptmount -key secrete -fork /b /mnt/b' motdepasse
expect 'Secret of the key secrete'
expect '/mnt/b is mounted'
cat /mnt/b/un
expect '^bonjour$'
umount /mnt/b
await 10 sh -c '! pidof ecryptmount'

# Encrypted names are longer, so names have at most 143 bytes.
quiet ecryptmount -key oaep -fork /a
name() { printf "%0$1d" 0; }
touch /a/$(name 143)
! touch /a/$(name 144)
expect 'File ?name too long'
umount /a
await 10 sh -c '! pidof ecryptmount'

# Interrupted while files are open: it names the programs and waits for them.
ecryptmount -key oaep /a > /tmp/log 2>&1 &
await 20 grep -q 'is mounted' /tmp/log
sleep 1000 < /a/un &
kill -INT $(pidof ecryptmount)
await 5 grep -q 'in use' /tmp/log
cat /tmp/log
expect '/a is in use by sleep \(process [0-9]+\): it will be unmounted when they are done'
cat /a/un
expect '^bonjour$'
quiet kill $(pidof sleep)
await 10 sh -c '! pidof ecryptmount'
! grep ' /a ' /proc/mounts
cat /tmp/log
expect '0 file keys wrapped, 1 file key unwrapped by the TPM'

# A second signal does not wait.
ecryptmount -key oaep /a > /tmp/log 2>&1 &
await 20 grep -q 'is mounted' /tmp/log
sleep 1000 < /a/un &
kill -TERM $(pidof ecryptmount)
await 5 grep -q 'in use' /tmp/log
kill -TERM $(pidof ecryptmount)
await 5 sh -c '! pidof ecryptmount'
cat /tmp/log
expect '/a was detached while it was in use by sleep'
! grep ' /a ' /proc/mounts
quiet kill $(pidof sleep)

# Another process detaches the mount while it is in use, or mounts it elsewhere, too:
# ecryptmount serves it until that ends.
quiet mkdir /e
ecryptmount -key secrete -key-pass pass:motdepasse /b /mnt/b > /tmp/log 2>&1 &
await 20 grep -q 'is mounted' /tmp/log
mount --bind /mnt/b /e
umount /mnt/b
quiet sleep 2
echo deux > /e/deux
(cd /e; sleep 1000) &
quiet sleep 1
umount -l /e
await 10 grep -q 'but something still uses it' /tmp/log
quiet kill $(pidof sleep)
await 10 sh -c '! pidof ecryptmount'
cat /tmp/log
expect '1 file key wrapped'

# A kernel without eCryptfs.
quiet rmmod ecryptfs
quiet sh -c 'mkdir /tmp/none; mount --bind /tmp/none /lib/modules'
! ecryptmount -key oaep /a
expect 'this kernel \([0-9].*\) has no eCryptfs'
expect 'hint: use a kernel with the module ecryptfs'
tpmctl status
expect 'key slots: +20 of 20 free'
