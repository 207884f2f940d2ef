# Attacks on an eCryptfs directory: another user owns the directory, or files beside it,
# and tries to become root.

#@ boot slow=1s for=4m
quiet tpmctl own
quiet keygen maclef
away() { await 20 sh -c '! pidof ecryptmount'; }

# ecryptmount does not trust a record that another user has put there.
mkdir /tmp/secret
planted() { su marie -c "$1"; ! ecryptmount -key maclef -fork /tmp/secret; }
planted 'echo root:motdepasse:1:: > /tmp/secret.ecryptmount'
expect '/tmp/secret.ecryptmount may not be the settings file that ecryptmount wrote: it belongs to marie'
expect 'hint: look at it'
planted 'rm /tmp/secret.ecryptmount; mkfifo /tmp/secret.ecryptmount'
expect '/tmp/secret.ecryptmount may not be the settings file that ecryptmount wrote: it is not a file'
planted 'rm /tmp/secret.ecryptmount; ln -s /root/planted /tmp/secret.ecryptmount'
expect '/tmp/secret.ecryptmount may not be the settings file that ecryptmount wrote: it is a symbolic link'
su marie -c 'rm /tmp/secret.ecryptmount'
cp maclef /tmp/secret.ecryptmount
chmod 666 /tmp/secret.ecryptmount
! ecryptmount -key maclef /tmp/secret
expect 'others than its owner can write to it \(mode 0666\)'
# The error does not show the contents of the file.
quiet sh -c 'echo root:motdepasse:1:: > /tmp/secret.ecryptmount; chmod 600 /tmp/secret.ecryptmount'
! ecryptmount -key maclef /tmp/secret
expect 'not a settings file of ecryptmount'
reject motdepasse
rm /tmp/secret.ecryptmount

# The chip is slow. A link that appears meanwhile in the place of the record is neither
# followed nor replaced.
mkdir /home/marie/new
quiet chown marie /home/marie/new
quiet sh -c 'head -c 65536 /dev/zero > /root/disk; modprobe loop; losetup /dev/loop0 /root/disk'
su marie -c 'cd /home/marie; (sleep 2; ln -s /dev/loop0 new.ecryptmount) >/dev/null 2>&1 &'
! ecryptmount -key maclef -fork /home/marie/new
expect 'write /home/marie/new.ecryptmount: something of that name appeared meanwhile'
cmp /dev/loop0 /root/disk
ls -A /home/marie
reject tmp
! grep ecryptfs /proc/mounts
quiet losetup -d /dev/loop0
rm /home/marie/new.ecryptmount

# A mount point that becomes a link meanwhile, or already is one.
mkdir /home/marie/crypt /home/marie/clear
quiet chown marie /home/marie/crypt /home/marie/clear
ecryptmount -key maclef -fork /home/marie/crypt /home/marie/clear
su marie -c 'echo root::0:0::/root:/bin/sh > /home/marie/clear/passwd'
umount /home/marie/clear
quiet away
su marie -c 'cd /home/marie; (sleep 2; mv clear clear.old; ln -s /etc clear) >/dev/null 2>&1 &'
! ecryptmount -key maclef -fork /home/marie/crypt /home/marie/clear
expect 'something else was put in the place of /home/marie/clear'
! grep ecryptfs /proc/mounts
! ecryptmount -key maclef -fork /home/marie/crypt /home/marie/clear
expect 'a symbolic link of marie leads to /etc, which belongs to root'
expect 'hint: .*name the directory itself: /etc'
su marie -c 'cd /home/marie; rm clear; mv clear.old clear'
# The same with the encrypted directory.
su marie -c 'cd /home/marie; (sleep 2; mv crypt crypt.old; ln -s /root crypt) >/dev/null 2>&1 &'
! ecryptmount -key maclef -fork /home/marie/crypt /home/marie/clear
expect 'something else was put in the place of /home/marie/crypt'
su marie -c 'cd /home/marie; rm crypt; mv crypt.old crypt'

# The directory of another user is mounted with nosuid and nodev, unless the options say
# otherwise.
ecryptmount -key maclef -fork /home/marie/crypt /home/marie/clear
grep ecryptfs /proc/mounts
expect '^/home/marie/crypt /home/marie/clear ecryptfs rw,nosuid,nodev,relatime'
cat /home/marie/clear/passwd
umount /home/marie/clear
quiet away
ecryptmount -key maclef -fork -o suid,dev /home/marie/crypt
grep ecryptfs /proc/mounts
expect '^/home/marie/crypt /home/marie/crypt ecryptfs rw,relatime'
umount /home/marie/crypt
quiet away
# Restrictions of the underlying file system stay.
mkdir /mnt
mount -t tmpfs -o nosuid,nodev,noexec tmpfs /mnt
mkdir /mnt/secret
ecryptmount -key maclef -fork -o suid,dev,exec /mnt/secret
grep ecryptfs /proc/mounts
expect '^/mnt/secret /mnt/secret ecryptfs rw,nosuid,nodev,noexec,relatime'
umount /mnt/secret
quiet away
# The file system is not busy afterwards.
umount /mnt

# A mount point that would hide the directory.
mkdir -p /srv/secret
! ecryptmount -key maclef /srv/secret /srv
expect '/srv/secret is inside /srv, which the mount would hide'

# A read-only mount without a record makes no record.
mkdir /plain
ecryptmount -key maclef -fork -o ro,ecryptfs_enable_filename_crypto=n /plain
reject 'is new'
! ls /plain.ecryptmount
umount /plain
quiet away

# Names in messages are escaped for terminals and logs.
evil=$(printf '/srv/\033[31mrouge')
mkdir "$evil"
ecryptmount -key maclef -fork "$evil"
expect '^ecryptmount: /srv/\\x1b\[31mrouge is mounted, for root'
umount "$evil"
quiet away

# ecryptmount was killed: the next one unmounts the old mount first.
ecryptmount -key maclef -fork /home/marie/crypt /home/marie/clear
quiet sh -c 'kill -9 $(pidof ecryptmount)'
await 10 sh -c '! pidof ecryptmount'
ecryptmount -key maclef -fork /home/marie/crypt /home/marie/clear
expect 'was still mounted by an ecryptmount that was killed; it is unmounted now'
cat /home/marie/clear/passwd
umount /home/marie/clear
quiet away
ecryptmount -key maclef -fork -user 3000000000 /srv/secret
expect '/srv/secret is mounted, for root, 3000000000'
kill -9 $(pidof ecryptmount)
await 10 sh -c '! pidof ecryptmount'
ecryptmount -key maclef -fork /srv/secret
expect 'it is unmounted now'
umount /srv/secret
quiet away
