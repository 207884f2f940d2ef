# Directories that only this machine's TPM 2.0 can open: eCryptfs, with key files with and
# without a password, and gocryptfs.

#@ boot tpm=2.0
quiet keygen maclef
quiet keygen -a -key-pass pass:motdepasse secrete
quiet keygen -type p256 courbe
quiet sh -c 'umask 077; echo motdepasse >motdepasse; echo autre >autre'
mkdir /secret
ecryptmount -key maclef -fork -o ecryptfs_cipher=aes,ecryptfs_key_bytes=32 /secret
expect '/secret is mounted, for root; umount /secret ends that'
expect '/secret.ecryptmount is new: keep a copy of it'
echo bonjour >/secret/lettre.txt
tree() {
	for i in $(seq 60); do head -c $((i * i * 30)) /dev/urandom >"/secret/file number $i" || return; done
	cd /secret && find . -type f -exec md5sum {} + >/root/sums
	cd /root
}
quiet tree
umount /secret
await 10 sh -c '! pidof ecryptmount'
ls /secret
reject 'lettre|file'
! grep -r bonjour /secret

# Mounted again, everything is as before; each file takes one TPM command.
quiet syslogd -O /tmp/messages
quiet sh -c 'sync; echo 3 >/proc/sys/vm/drop_caches'
ecryptmount -key maclef -fork /secret
cd /secret && md5sum -c -s /root/sums
quiet cd /root
umount /secret
await 10 grep -q 'unwrapped by the TPM' /tmp/messages
tail -n 1 /tmp/messages
expect '0 file keys wrapped, 61 file keys unwrapped by the TPM'
! grep -E ' user +[0-9a-f]{16}: ' /proc/keys

# Another key does not open it, and an EC key opens no directory.
! ecryptmount -key secrete -key-pass file:motdepasse -fork /secret
expect 'was set up with another key than secrete'
! ecryptmount -key courbe -fork /secret
expect 'courbe is an EC key, which cannot encrypt'

# A key with a password: a wrong one costs a try, nothing is mounted.
mkdir /coffre
! ecryptmount -key secrete -key-pass file:autre -fork /coffre
expect 'wrong'
! grep ' /coffre ' /proc/mounts
tpmctl status
ecryptmount -key secrete -key-pass file:motdepasse -fork /coffre
echo bonsoir >/coffre/lettre.txt

# Together with a web server, while the machine sleeps and wakes up.
quiet certgen -key maclef -out moncert
tlsdemo -accept 4433 2>tlsdemo.log &
await 30 grep serving tlsdemo.log
asleep
expect '^1$'
quiet sh -c 'sync; echo 3 >/proc/sys/vm/drop_caches'
cat /coffre/lettre.txt
expect '^bonsoir$'
curl --silent --show-error --cacert moncert https://localhost:4433/ | grep 'TPM signed'
umount /coffre
await 10 sh -c '! pidof ecryptmount'

# gocryptfs gets its password from a command.
quiet modprobe fuse
tpmctl random -hex 32 | tpmctl encrypt -key maclef -out password.bin
mkdir dechiffre chiffre
#>
gocryptfs -init -scryptn 10 -extpass 'tpmctl decrypt -key maclef -in password.bin' chiffre
gocryptfs -q -extpass 'tpmctl decrypt -key maclef -in password.bin' chiffre dechiffre
echo bonjour >dechiffre/lettre.txt
fusermount3 -u dechiffre

# After a reboot all of them can be opened again.
#@ boot tpm=2.0
ecryptmount -key maclef -fork /secret
cat /secret/lettre.txt
expect '^bonjour$'
cd /secret && md5sum -c -s /root/sums
cd /root
umount /secret
await 10 sh -c '! pidof ecryptmount'
ecryptmount -key secrete -key-pass file:motdepasse -fork /coffre
cat /coffre/lettre.txt
expect '^bonsoir$'
umount /coffre
await 10 sh -c '! pidof ecryptmount'
quiet modprobe fuse
gocryptfs -q -extpass 'tpmctl decrypt -key maclef -in password.bin' chiffre dechiffre
cat dechiffre/lettre.txt
expect '^bonjour$'
fusermount3 -u dechiffre
