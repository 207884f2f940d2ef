# # A LUKS disk that opens with the TPM
#
# `cryptsetup` reads a disk's password from standard input, and `tpmctl decrypt`
# writes it there. The password is random. A file beside the disk contains it,
# encrypted for a key of the TPM. `--pbkdf pbkdf2` saves time: slow hashes protect
# weak passwords, and this one is strong.
#
# Make a key in a TPM that has an owner (if the SRK has a password, all these
# commands need `-srk-pass`), and a password that nobody has seen. `encrypt` needs
# no TPM.
#@ boot
quiet tpmctl own
quiet modprobe -a loop dm-crypt
keygen maclef
tpmctl random -hex 32 | tpmctl encrypt -key maclef -out password.bin

# Make the disk, here in a file. A second password opens it if the TPM breaks: write
# it on paper, keep that in a safe, and remove the file.
truncate -s 64M disque
tpmctl decrypt -key maclef -in password.bin | cryptsetup luksFormat --batch-mode --pbkdf pbkdf2 --key-file - disque
(umask 077; printf %s un-mot-de-passe-sur-papier >papier)
tpmctl decrypt -key maclef -in password.bin | cryptsetup luksAddKey --batch-mode --key-file - disque papier
rm papier

# Open it, and make a file system on it.
tpmctl decrypt -key maclef -in password.bin | cryptsetup open --key-file - disque secret
mkfs.ext4 -q /dev/mapper/secret
mkdir /mnt
mount /dev/mapper/secret /mnt
echo bonjour >/mnt/lettre.txt
umount /mnt
cryptsetup close secret

# The file contains no plain text.
! grep -a bonjour disque

# After a reboot it opens again.
#@ boot
quiet modprobe -a loop dm-crypt
tpmctl decrypt -key maclef -in password.bin | cryptsetup open --key-file - disque secret
mount /dev/mapper/secret /mnt
cat /mnt/lettre.txt
expect '^bonjour$'
quiet umount /mnt
quiet cryptsetup close secret

# With another chip only the password on paper opens it.
#@ boot chip=second
quiet modprobe -a loop dm-crypt
quiet tpmctl own
! tpmctl decrypt -key maclef -in password.bin | cryptsetup open --key-file - disque secret
expect 'not a key of this TPM'
#> un-mot-de-passe-sur-papier
cryptsetup open disque secret
mount /dev/mapper/secret /mnt
cat /mnt/lettre.txt
expect '^bonjour$'
quiet umount /mnt
quiet cryptsetup close secret
