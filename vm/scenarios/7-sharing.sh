# Programs that share a TPM: the kernel lets one program open its device, the chip has few
# key slots, and loses loaded keys when the machine sleeps.

#@ boot for=10m
quiet tpmctl own
quiet keygen maclef
quiet keygen -a -key-pass pass:motdepasse secrete
quiet certgen -key maclef -out moncert
quiet certgen -key secrete -key-pass pass:motdepasse -out secrete.crt
quiet sh -c 'tpmctl pub maclef >maclef.pub; echo bonjour >lettre'
page() { # port, certificate
	curl --silent --show-error --max-time 60 --cacert $2 https://localhost:$1/ | grep 'TPM signed'
}

held() { ls -l /proc/[0-9]*/fd 2>/dev/null | grep /dev/tpm; }

# An idle server does not hold the device and has nothing loaded in the chip.
tlsdemo -key maclef -cert moncert -accept 4433 2>4433.log &
await 30 grep serving 4433.log
page 4433 moncert
head -c 0 </dev/tpm0
! held
tpmctl status
expect 'held by: +nobody'
expect 'key slots: +20 of 20 free'
expect 'loaded: +nothing'

# Four programs sign at once while the server serves: all signatures are valid.
signer() {
	for i in 1 2 3; do
		echo "$1 $i" >lettre.$1
		tpmctl sign -key maclef -in lettre.$1 -out $1.$i.sig || return
		openssl dgst -sha256 -verify maclef.pub -signature $1.$i.sig lettre.$1 || return
	done
}
four() {
	signers=
	for p in a b c d; do
		signer $p &
		signers="$signers $!"
	done >signed
	for i in 1 2 3 4; do page 4433 moncert || return; done
	wait $signers
	grep -c 'Verified OK' signed
}
four
expect '^12$'

# Another program holds the device. Ours wait as long as -wait says,
sh -c 'exec 3<>/dev/tpm0; exec sleep 1000' &
await 5 held
took() { # says how long a command takes
	read began _ </proc/uptime
	"$@"
	result=$?
	read ended _ </proc/uptime
	echo "it took $(((${ended%.*}${ended#*.} - ${began%.*}${began#*.}) / 10)) tenths of a second"
	return $result
}
! took tpmctl sign -wait 1s -key maclef -in lettre -out lettre.sig
expect '/dev/tpm0.*busy.*sleep \(process [0-9]+\) has it open'
expect 'it took [12][0-9] tenths'
quiet test ! -e lettre.sig
# or until the device is free.
tpmctl sign -wait 1m -key maclef -in lettre -out lettre.sig &
page 4433 moncert >page &
sleep 2
quiet test ! -s lettre.sig
quiet kill $(pidof sleep)
await 20 test -s lettre.sig -a -s page
openssl dgst -sha256 -verify maclef.pub -signature lettre.sig lettre
cat page

# An idle server that is killed leaves nothing in the chip.
tlsdemo -key secrete -key-pass pass:motdepasse -cert secrete.crt -accept 4434 2>4434.log &
await 30 grep serving 4434.log
page 4434 secrete.crt
kill -9 $!
quiet sleep 1
tpmctl status
expect 'key slots: +20 of 20 free'
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
		took tpmctl status -wait 1s >stopped 2>&1 && return 1
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
expect 'it took [12][0-9] tenths'
expect 'key slots: +19 of 20 free'
expect 'left behind: +1 key( and [0-9]+ sessions?)?: tpmctl flush frees'
page 4433 moncert
tpmctl flush
expect '^freed 1 key( and [0-9]+ sessions?)?$'
reject 'still there'
tpmctl status
expect 'key slots: +20 of 20 free'
expect 'loaded: +nothing'
page 4433 moncert
# Programs that are killed at any moment do not lock out others.
killed() {
	for i in $(seq 20); do
		tpmctl sign -key maclef -in lettre >/dev/null &
		sleep 0.$(printf %03d $((i * 6)))
		kill -9 $!
	done
	page 4433 moncert
}
killed
tpmctl status
tpmctl flush
tpmctl status
expect 'key slots: +20 of 20 free'
expect 'loaded: +nothing'

# A program leaves sessions until no slot is free (with TPM_OIAP, by hand). Programs that
# need a session free them.
quiet printf '\0\301\0\0\0\12\0\0\0\12' >oiap
for i in $(seq 40); do dd if=oiap of=/dev/tpm0 2>/dev/null; done
tpmctl status
expect 'left behind: +[0-9]+ sessions: tpmctl flush frees them'
page 4433 moncert
tpmctl sign -key secrete -key-pass pass:motdepasse -in lettre >/dev/null
tpmctl flush

# More servers than the chip has key slots.
quiet kill %1
crowd() {
	for port in $(seq 5000 5020); do
		tlsdemo -wait 2m -key maclef -cert moncert -accept $port 2>$port.log &
	done
	for port in $(seq 5000 5020); do
		until grep -q serving $port.log; do
			sleep 0.2
			grep error $port.log && return 1
		done
	done
	for port in $(seq 5000 5020); do page $port moncert || return; done | wc -l
}
crowd
expect '^21$'
tpmctl status
expect 'key slots: +20 of 20 free'
expect 'loaded: +nothing'
quiet kill $(pidof tlsdemo)
await 20 sh -c '! pidof tlsdemo'
tpmctl status
expect 'key slots: +20 of 20 free'

# A web server and an eCryptfs directory on one chip.
quiet mkdir /secret
ecryptmount -key maclef -fork /secret
quiet sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do echo bonjour $i >/secret/$i; done'
tlsdemo -key secrete -key-pass pass:motdepasse -cert secrete.crt -accept 4434 2>4434.log &
await 30 grep serving 4434.log
pages() { for i in $(seq $1); do page 4434 secrete.crt || return; done; }
files() {
	for i in $(seq $1); do
		sync
		echo 3 >/proc/sys/vm/drop_caches
		cat /secret/* || return
	done
}
both() {
	pages $1 >pages &
	files $1 >files
	wait $!
	wc -l <pages
	wc -l <files
}
both 5
expect '^5$'
expect '^50$'

# The machine sleeps and wakes up. No program needs a restart, and no handshake fails.
asleep
expect '^1$'
both 1
expect '^10$'
pages 15 >pages 2>complaints &
sleep 1
asleep
expect '^2$'
wait $!
cat complaints
reject .
wc -l <pages
expect '^15$'
tpmctl status
expect 'key slots: +20 of 20 free'
expect 'loaded: +nothing'

# A machine whose firmware does not start the chip after sleep: the chip answers every
# command with TPM_INVALID_POSTINIT.
#@ boot wake=unstarted
tlsdemo -key secrete -key-pass pass:motdepasse -cert secrete.crt -accept 4434 2>4434.log &
await 30 grep serving 4434.log
ecryptmount -key maclef -fork /secret
asleep
dmesg | grep 'A TPM error'
expect '\(38\)'
files() {
	sync
	echo 3 >/proc/sys/vm/drop_caches
	cat /secret/*
}
files
expect '^bonjour 10$'
curl --silent --show-error --cacert secrete.crt https://localhost:4434/ | grep 'TPM signed'
tpmctl status
expect 'key slots: +20 of 20 free'
expect 'loaded: +nothing'
asleep
dmesg | grep 'A TPM error'
expect '\(38\)'
tpmctl sign -key maclef -in lettre -out encore.sig
openssl dgst -sha256 -verify maclef.pub -signature encore.sig lettre
curl --silent --show-error --cacert secrete.crt https://localhost:4434/ | grep 'TPM signed'
umount /secret
await 10 sh -c '! pidof ecryptmount'
kill %1

# Two servers, whose keys have secrets, work while another program flushes everything
# again and again. They do not notice, and the TPM counts no wrong secret.
#@ boot for=5m
quiet keygen -a -key-pass pass:autre seconde
quiet certgen -key seconde -key-pass pass:autre -out seconde.crt
cat >stress <<'fin'
pages() { # port, certificate: fetches pages until the file "stop" is there, each with a handshake
	fetched=0
	until test -e stop; do
		curl --silent --show-error --max-time 60 --cacert $2 --http1.1 --no-sessionid --header 'Connection: close' "https://localhost:$1/?[1-9]" >page.$1
		[ $(grep -c 'TPM signed' page.$1) = 9 ] || return
		fetched=$((fetched + 9))
	done
	echo $fetched pages of $1
}
flushes() {
	until test -e stop; do
		tpmctl flush || return
	done
}
stress() { # seconds, command that runs meanwhile
	rm -f stop
	$2 >meanwhile 2>&1 &
	somebody=$!
	pages 4434 secrete.crt &
	first=$!
	pages 4435 seconde.crt &
	second=$!
	sleep $1
	touch stop
	wait $first && wait $second && wait $somebody
	result=$?
	sort meanwhile | uniq -c
	return $result
}
fin
quiet . ./stress
tlsdemo -key secrete -key-pass pass:motdepasse -cert secrete.crt -accept 4434 2>4434.log &
tlsdemo -key seconde -key-pass pass:autre -cert seconde.crt -accept 4435 2>4435.log &
await 30 grep serving 4434.log
await 30 grep serving 4435.log
stress 10 flushes
expect '[1-9][0-9]* pages of 4434'
expect '[1-9][0-9]* pages of 4435'
expect '[0-9] nothing was left behind'
reject 'freed'
cat 4434.log 4435.log
reject 'error'
tpmctl status
expect '0 of 5 tries used'
expect 'loaded: +nothing'
quiet kill %1 %2
