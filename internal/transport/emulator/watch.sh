# Runs one swtpm for all processes that use this directory, and ends it after
# the last of them. Each holds a shared lock on users.lock as long as it lives.
# Descriptor 3 is a pipe whose end tells the starter that swtpm has ended. The
# arguments are swtpm's, which tell the generation of TPM.
umask 077

# swtpm holds swtpm.lock as long as it lives, so that no second one comes near
# its socket and its state.
exec 8>>swtpm.lock
flock -w 10 8 || {
	echo "an old swtpm has not let go of swtpm.lock" >&2
	exit 1
}

# With setpriv the kernel ends swtpm when this script is killed.
die=
setpriv --pdeathsig TERM true 2>/dev/null && die='setpriv --pdeathsig TERM'
$die swtpm socket "$@" --tpmstate dir=.,mode=0600 \
	--server type=unixio,path=sock,mode=0600 --ctrl type=unixio,path=ctrl,mode=0600 \
	--flags not-need-init,startup-clear 3>&3 8>&8 &
tpm=$!
exec 3>&- 8>&-

# mine: swtpm is this shell's child still; if it died long ago, its number may
# belong to a stranger.
mine() { grep -q "^PPid:[[:space:]]*$$\$" "/proc/$tpm/status" 2>/dev/null; }

# From here to the end newcomers wait, and find no swtpm that is about to go.
exec 9>>users.lock
flock -x 9
if mine; then
	kill -TERM "$tpm"
	tries=0
	while mine && [ $tries -lt 500 ]; do
		sleep 0.01
		tries=$((tries + 1))
	done
	mine && kill -KILL "$tpm"
fi
wait
