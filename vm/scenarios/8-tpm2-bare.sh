# Programs that share a TPM 2.0 on its bare device: without a resource manager, and with
# three key slots.

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
expect 'key slots: +3 of 3 free'
expect 'loaded: +nothing'
four
expect '^12$'

# The machine sleeps and wakes up. The chip has lost everything that was loaded.
asleep
expect '^1$'
page 4434 secrete.crt
page 4433 moncert
page 4435 courbe.crt
page 4434 secrete.crt
tpmctl status
expect '0 of 3 tries used'

# An idle server that is killed leaves nothing in the chip.
page 4434 secrete.crt
kill -9 %2
quiet sleep 1
tpmctl status
expect 'key slots: +3 of 3 free'
expect 'loaded: +nothing'

# A server that is killed during a turn leaves its key. tpmctl says so and frees it; that
# does not affect running servers.
left() { # kills a server in a turn, until it leaves a key
	for i in 1 2 3 4 5 6 7 8; do
		tlsdemo -key secrete -key-pass pass:motdepasse -cert secrete.crt -accept 4434 2>4434.log &
		server=$!
		until grep -q serving 4434.log; do sleep 0.1; done
		while page 4434 secrete.crt; do true; done >/dev/null 2>&1 &
		client=$!
		until kill -STOP $server && ls -l /proc/$server/fd | grep -q /dev/tpm0; do
			kill -CONT $server
			sleep 0.1
		done
		tpmctl status -wait 1s >stopped 2>&1 && return 1
		kill -9 $server
		wait $client
		tpmctl status >state || return
		if grep 'left behind: *1 key' state; then
			cat stopped state
			return
		fi
	done
	return 1
}
left
expect 'held by: +tlsdemo \(process [0-9]+\)'
expect '/dev/tpm0.*busy.*tlsdemo \(process [0-9]+\) has it open'
expect 'key slots: +2 of 3 free'
expect 'left behind: +1 key( and [0-9]+ sessions?)?: tpmctl flush frees'
page 4433 moncert
tpmctl flush
expect '^freed 1 key( and [0-9]+ sessions?)?$'
reject 'still there'
tpmctl status
expect 'key slots: +3 of 3 free'
expect 'loaded: +nothing'
page 4433 moncert

# A program leaves keys and sessions until no slot is free (with TPM2_HashSequenceStart and
# TPM2_StartAuthSession, by hand). Programs that need a slot free them.
quiet printf '\200\1\0\0\0\16\0\0\1\206\0\0\0\13' >hash
quiet printf '\200\1\0\0\0\53\0\0\1\166\100\0\0\7\100\0\0\7\0\20seize octets....\0\0\0\0\20\0\13' >session
for i in 1 2 3 4; do dd if=hash of=/dev/tpm0; dd if=session of=/dev/tpm0; done 2>/dev/null
tpmctl status
expect 'key slots: +0 of 3 free'
expect 'left behind: +3 keys and 3 sessions: tpmctl flush frees them'
page 4433 moncert
page 4435 courbe.crt
tpmctl sign -key secrete -key-pass pass:motdepasse -in lettre >/dev/null
tpmctl flush
tpmctl status
expect 'key slots: +3 of 3 free'
expect 'loaded: +nothing'
expect '0 of 3 tries used'
quiet kill $(pidof tlsdemo)
await 20 sh -c '! pidof tlsdemo'

# More servers than the chip has key slots.
crowd() {
	for port in $(seq 5000 5007); do
		tlsdemo -wait 2m -key maclef -cert moncert -accept $port 2>$port.log &
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
tpmctl status
expect 'key slots: +3 of 3 free'
expect 'loaded: +nothing'
quiet kill $(pidof tlsdemo)
await 20 sh -c '! pidof tlsdemo'

# A machine whose firmware does not start the chip after sleep: the chip answers every
# command with TPM_RC_INITIALIZE.
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
