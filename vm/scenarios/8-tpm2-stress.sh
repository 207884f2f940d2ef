# Two servers, whose keys have secrets, use a TPM 2.0 while another program flushes
# everything again and again. They do not notice, and the TPM counts no wrong secret.

#@ boot tpm=2.0 for=6m
quiet keygen -a -key-pass pass:motdepasse secrete
quiet keygen -a -type p256 -key-pass pass:autre courbe
quiet certgen -key secrete -key-pass pass:motdepasse -out secrete.crt
quiet certgen -key courbe -key-pass pass:autre -out courbe.crt
servers() {
	tlsdemo -key secrete -key-pass pass:motdepasse -cert secrete.crt -accept 4434 2>4434.log &
	tlsdemo -key courbe -key-pass pass:autre -cert courbe.crt -accept 4435 2>4435.log &
}
pages() { # port, certificate: fetches pages until the file "stop" is there, each with a handshake
	fetched=0
	until test -e stop; do
		curl --silent --show-error --max-time 60 --tlsv1.3 --cacert $2 --http1.1 --no-sessionid --header 'Connection: close' "https://localhost:$1/?[1-9]" >page.$1
		[ $(grep -c 'TPM signed' page.$1) = 9 ] || return
		fetched=$((fetched + 9))
	done
	echo $fetched pages of $1
}
stress() { # seconds, command that runs meanwhile
	rm -f stop
	until test -e stop; do
		$2 || return
	done >meanwhile 2>&1 &
	somebody=$!
	pages 4434 secrete.crt &
	first=$!
	pages 4435 courbe.crt &
	second=$!
	sleep $1
	touch stop
	wait $first && wait $second && wait $somebody
	result=$?
	sort meanwhile | uniq -c
	return $result
}

# On the bare device. Between the turns of the servers nothing is loaded.
export TPMKEY_TPM=/dev/tpm0
servers
await 30 grep serving 4434.log
await 30 grep serving 4435.log
stress 10 'tpmctl flush'
expect '[1-9][0-9]* pages of 4434'
expect '[1-9][0-9]* pages of 4435'
expect '[0-9] nothing was left behind'
reject 'freed'
tpmctl status
expect '0 of 3 tries used'
expect 'loaded: +nothing'

# A program that does not share flushes keys and sessions by their handles, whoever owns
# them, and leaves keys and sessions until no slot is free (with TPM2_FlushContext,
# TPM2_HashSequenceStart and TPM2_StartAuthSession, by hand).
for place in 0 1 2; do
	printf '\200\1\0\0\0\16\0\0\1\145\200\0\0\'$place >flush.key.$place
	printf '\200\1\0\0\0\16\0\0\1\145\2\0\0\'$place >flush.session.$place
	printf '\200\1\0\0\0\16\0\0\1\206\0\0\0\13' >leave.key.$place
	printf '\200\1\0\0\0\53\0\0\1\166\100\0\0\7\100\0\0\7\0\20seize octets....\0\0\0\0\20\0\13' >leave.session.$place
done
others() {
	for command in flush.* leave.*; do
		dd if=$command of=/dev/tpm0 && echo $command
	done 2>/dev/null | wc -l
}
stress 10 others
expect '[1-9][0-9]* pages of 4434'
expect '[1-9][0-9]* pages of 4435'
tpmctl status
expect '0 of 3 tries used'
tpmctl flush
tpmctl status
expect 'loaded: +nothing'
cat 4434.log 4435.log
reject 'error'
quiet kill $(pidof tlsdemo)
await 20 sh -c '! pidof tlsdemo'

# Through the resource manager. Other programs cannot flush anything there.
unset TPMKEY_TPM
servers
await 30 grep serving 4434.log
await 30 grep serving 4435.log
stress 10 'tpmctl flush'
expect '[1-9][0-9]* pages of 4434'
expect '[1-9][0-9]* pages of 4435'
expect '[0-9] nothing was left behind'
reject 'freed'
tpmctl status
expect '^device: +/dev/tpmrm0$'
expect '0 of 3 tries used'
cat 4434.log 4435.log
reject 'error'
quiet kill $(pidof tlsdemo)
await 20 sh -c '! pidof tlsdemo'
