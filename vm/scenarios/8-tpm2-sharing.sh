# Programs that share a TPM 2.0 through the kernel's resource manager. (8-tpm2-bare uses the
# bare device. Using both at the same time is not supported.)

#@ boot tpm=2.0 for=8m
quiet keygen maclef
quiet keygen -type p256 courbe
quiet keygen -a -key-pass pass:motdepasse secrete
quiet certgen -key maclef -out moncert
quiet certgen -key courbe -out courbe.crt
quiet certgen -key secrete -key-pass pass:motdepasse -out secrete.crt
quiet sh -c 'tpmctl pub maclef >maclef.pub; echo bonjour >lettre'
cat >mots <<'fin'
page() { # port, certificate
	curl --silent --show-error --max-time 60 --tlsv1.3 --cacert $2 https://localhost:$1/ | grep 'TPM signed'
}
signer() {
	for i in 1 2 3; do
		echo "$1 $i" >lettre.$1
		tpmctl sign -force -key maclef -in lettre.$1 -out $1.$i.sig || return
		openssl dgst -sha256 -verify maclef.pub -signature $1.$i.sig lettre.$1 || return
	done
}
four() {
	signers=
	for p in a b c d; do
		signer $p &
		signers="$signers $!"
	done >signed
	for i in 1 2 3 4; do
		page 4433 moncert || return
		page 4434 secrete.crt || return
	done
	wait $signers
	grep -c 'Verified OK' signed
}
servers() {
	tlsdemo -key maclef -cert moncert -accept 4433 2>4433.log &
	tlsdemo -key secrete -key-pass pass:motdepasse -cert secrete.crt -accept 4434 2>4434.log &
	tlsdemo -key courbe -cert courbe.crt -accept 4435 2>4435.log &
}
pages() { for i in $(seq $1); do page 4434 secrete.crt || return; done; }
fin
quiet . ./mots

# A program uses the contexts that an earlier program has left on disk. If the chip did not
# accept them, the program would write new ones.
contexts() { stat -c '%A %i %n' /run/maclef /run/maclef/*; }
tpmctl sign -force -key maclef -in lettre -out sig
contexts >before
wc -l <before
expect '^[3-9]$'
grep -c -e '^drwx------' -e '^-rw-------' before
expect '^[3-9]$'
tpmctl sign -force -key maclef -in lettre -out sig
contexts | cmp - before

# Three servers, and four programs that sign.
servers
await 30 grep serving 4433.log
await 30 grep serving 4434.log
await 30 grep serving 4435.log
four
expect '^12$'
page 4435 courbe.crt
tpmctl status

# A killed server leaves nothing: the kernel cleans up.
kill -9 %2
! page 4434 secrete.crt
page 4433 moncert
tpmctl status
reject 'left behind'
# The same at any moment.
killed() {
	for i in $(seq 10); do
		tpmctl sign -key secrete -key-pass pass:motdepasse -in lettre >/dev/null &
		sleep 0.$(printf %02d $i)
		kill -9 $!
	done
	page 4433 moncert
}
killed
# tpmctl status advises against the bare device while programs use the resource manager.
TPMKEY_TPM=/dev/tpm0 tpmctl status
expect 'used by tlsdemo .*/dev/tpm0 is for machines on which nobody uses it: -tpm /dev/tpmrm0'
reject 'left behind'

# The machine sleeps and wakes up.
tlsdemo -key secrete -key-pass pass:motdepasse -cert secrete.crt -accept 4434 2>4434.log &
await 30 grep serving 4434.log
pages 1
asleep
expect '^1$'
page 4433 moncert
page 4435 courbe.crt
pages 15 >pages 2>complaints &
sleep 1
asleep
expect '^2$'
wait $!
cat complaints
reject .
wc -l <pages
expect '^15$'
quiet kill $(pidof tlsdemo)

# Sleep is not a reset: contexts from before can be loaded.
tpmctl sign -force -key maclef -in lettre -out sig
tpmctl sign -force -key secrete -key-pass pass:motdepasse -in lettre -out sig
contexts >before
asleep
expect '^3$'
tpmctl sign -force -key maclef -in lettre -out sig
tpmctl sign -force -key secrete -key-pass pass:motdepasse -in lettre -out sig
contexts | cmp - before
tpmctl flush
ls /run/maclef | wc -l
expect '^0$'

# A machine whose firmware does not start the chip after sleep: the chip answers every
# command with TPM_RC_INITIALIZE.
#@ boot wake=unstarted for=5m
quiet . ./mots
servers
await 30 grep serving 4433.log
await 30 grep serving 4434.log
await 30 grep serving 4435.log
page 4433 moncert
page 4434 secrete.crt
asleep
page 4434 secrete.crt
page 4433 moncert
page 4435 courbe.crt
asleep
tpmctl sign -key maclef -in lettre -out encore.sig
openssl dgst -sha256 -verify maclef.pub -signature encore.sig lettre
page 4433 moncert
