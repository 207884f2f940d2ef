# Runs one swtpm for all processes that use this directory, and ends it when the
# last of them has ended. Each process holds a shared lock on users.lock while it
# runs. Descriptor 3 is a pipe: when swtpm ends, it closes, and the process that
# started this script notices. The arguments are options of swtpm.
umask 077

# swtpm holds swtpm.lock while it runs, so that a second one does not use its
# socket and its state.
exec 8>>swtpm.lock
flock -w 10 8 || {
	echo "an old swtpm still holds swtpm.lock" >&2
	exit 1
}

# With setpriv the kernel ends swtpm when this script is killed.
deathsig=
setpriv --pdeathsig TERM true 2>/dev/null && deathsig='setpriv --pdeathsig TERM'
$deathsig swtpm socket "$@" --tpmstate dir=.,mode=0600 \
	--server type=unixio,path=sock,mode=0600 --ctrl type=unixio,path=ctrl,mode=0600 \
	--flags not-need-init,startup-clear 3>&3 8>&8 &
tpm=$!
exec 3>&- 8>&-

# is_child is true while swtpm is a child of this shell. If swtpm has ended, another
# process may have its process ID.
is_child() { grep -q "^PPid:[[:space:]]*$$\$" "/proc/$tpm/status" 2>/dev/null; }

# Wait for the last user. New users wait for this lock until swtpm has ended.
exec 9>>users.lock
flock -x 9
if is_child; then
	kill -TERM "$tpm"
	tries=0
	while is_child && [ $tries -lt 500 ]; do
		sleep 0.01
		tries=$((tries + 1))
	done
	is_child && kill -KILL "$tpm"
fi
wait
