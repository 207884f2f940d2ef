# Programs that share a TPM 2.0 on its bare device: there is no resource manager, and
# the chip has three places for keys.

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
	for i in 1 2 3 4 5; do
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
asleep() {
	echo +3 >/sys/class/rtc/rtc0/wakealarm && echo mem >/sys/power/state && dmesg | grep -c 'suspend exit'
}
fin
quiet . ./mots
export TPMKEY_TPM=/dev/tpm0
servers
await 30 grep serving 4433.log
await 30 grep serving 4434.log
await 30 grep serving 4435.log
page 4433 moncert
page 4434 secrete.crt
page 4435 courbe.crt
tpmctl status
expect '^device: +/dev/tpm0$'
expect 'held by: +nobody'
expect 'loaded: +1 key.* of tlsdemo'
four
expect '^20$'

# The machine sleeps and wakes up. The chip has lost all, and gives the places to whoever
# comes first.
asleep
expect '^1$'
page 4434 secrete.crt
page 4433 moncert
page 4435 courbe.crt
page 4434 secrete.crt
tpmctl status
expect '0 of 3 tries used'

# One that is killed leaves its key in the chip; tpmctl says so, and frees it.
page 4434 secrete.crt
kill -9 %2
quiet sleep 1
tpmctl status
expect 'left behind: +1 key and 1 session by killed programs.*tpmctl flush'
tpmctl flush
expect '^freed 1 key and 1 session$'
tpmctl status
reject 'left behind'
quiet kill $(pidof tlsdemo)
await 20 sh -c '! pidof tlsdemo'
tpmctl status
expect 'key slots: +3 of 3 free'
expect 'loaded: +nothing'

# More servers than the chip has places.
crowd() {
	for port in $(seq 5000 5007); do
		tlsdemo -key maclef -cert moncert -accept $port 2>$port.log &
	done
	for port in $(seq 5000 5007); do
		until grep -q serving $port.log; do
			sleep 0.2
			grep error $port.log && return 1
		done
	done
	for i in 1 2; do
		for port in $(seq 5000 5007); do page $port moncert || return; done
	done | wc -l
}
crowd
expect '^16$'
quiet kill $(pidof tlsdemo)
await 20 sh -c '! pidof tlsdemo'

# A machine whose firmware forgets to start the chip again: to all that it is asked,
# the chip says TPM_RC_INITIALIZE.
#@ boot wake=unstarted for=5m
quiet . ./mots
export TPMKEY_TPM=/dev/tpm0
servers
await 30 grep serving 4433.log
await 30 grep serving 4434.log
await 30 grep serving 4435.log
page 4434 secrete.crt
asleep
page 4434 secrete.crt
page 4433 moncert
page 4435 courbe.crt
asleep
tpmctl sign -key maclef -in lettre -out toujours.sig
openssl dgst -sha256 -verify maclef.pub -signature toujours.sig lettre
