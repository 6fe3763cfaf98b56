#!/bin/sh
# The starter of Parley for a home directory without root: mod_fcgid runs this file,
# and it becomes a worker.  Put it where the web server runs programs (beside
# .htaccess), mode 0755.  parley-hosting(7) goes through it step by step.
#
# The same file under any other name is parleyctl with the same settings: put it at
# ~/parley/parley, for the terminal and for cron.
#
# Settings are lines NAME=value in parley.env, beside this file or in Parley's own
# folder, which nobody but its owner may read.

# Parley's own folder, seen from here: sbin, bin, share/parley, parley.env.	<- change
home=../parley

umask 077

# For the web server's error log, or the terminal.
refuse() {
	echo "parley: $*" >&2
	exit 1
}

case $0 in
*/*)	cd "${0%/*}" || exit 1 ;;
esac
[ -x sbin/parley.fcgi ] && home=.
home=$(cd "$home" 2>/dev/null && pwd -P) || refuse "there is no folder $home beside $PWD"
env=$home/parley.env
[ -f parley.env ] && env=$PWD/parley.env

# Keys are in it: it belongs to who runs this, and to nobody else.  A host that runs
# this as one user for all its customers is no place for keys.
[ -r "$env" ] || refuse "$env cannot be read by user $(id -un)"
[ -n "$(find "$env" -prune -user "$(id -u)")" ] ||
	refuse "$env does not belong to user $(id -un), who runs this: ask your host for suexec, or whatever runs programs as you"
[ -z "$(find "$env" -prune \( -perm -040 -o -perm -020 -o -perm -004 -o -perm -002 \))" ] ||
	refuse "others can read $env: chmod 600 $env"
for program in "$home/sbin/parley.fcgi" "$home/bin/parleyctl"; do
	[ -x "$program" ] || refuse "$program is not there, or not executable"
	[ -z "$(find -L "$program" -prune -perm -002)" ] || refuse "everybody can write $program: chmod 755 $program"
done

# A value is what stands behind the sign, to the end of the line: nothing in it means
# anything to this shell.
n=0
cr=$(printf '\r')
while IFS= read -r line || [ -n "$line" ]; do
	n=$((n + 1))
	line=${line%"$cr"}
	name=${line%%=*}
	case $line in
	'' | '#'*)	continue ;;
	*=[\"\']*)	refuse "$env, line $n: no quotes around values" ;;
	[A-Z]*=*)	;;
	*)		refuse "$env, line $n: not NAME=value" ;;
	esac
	case $name in
	*[!A-Z0-9_]*)	refuse "$env, line $n: a name has capital letters, digits and _" ;;
	esac
	export "${line?}"
done <"$env"

# What suits such a host; parley.env may say otherwise.  Few connections to the
# database are allowed there, as each process has its own.  mod_fcgid gives up on a
# program that is silent for 40 s, and kills seconds after it has asked.
export PARLEY_DATABASE_CONNECTIONS="${PARLEY_DATABASE_CONNECTIONS:-1}"
export PARLEY_CLIENT_MAX_WAIT="${PARLEY_CLIENT_MAX_WAIT:-25 s}"
export PARLEY_WORKER_DRAIN_TIMEOUT="${PARLEY_WORKER_DRAIN_TIMEOUT:-1 s}"
export PARLEY_LOG_FILE="${PARLEY_LOG_FILE:-$home/parley.log}"
export PARLEY_LOG_LEVEL="${PARLEY_LOG_LEVEL:-warn}"
[ -f "$home/share/parley/instructions.txt" ] &&
	export PARLEY_AGENT_INSTRUCTIONS_FILE="${PARLEY_AGENT_INSTRUCTIONS_FILE:-$home/share/parley/instructions.txt}"
[ -f "$home/parley.conf" ] && export PARLEY_CONF="${PARLEY_CONF:-$home/parley.conf}"
# Libraries that the host lacks.
[ -d "$home/lib" ] && export LD_LIBRARY_PATH="$home/lib"

# A worker is given no words: where this runs as a plain CGI they would be the client's.
case $0 in
*.fcgi)	exec "$home/sbin/parley.fcgi" ;;
*)	exec "$home/bin/parleyctl" "$@" ;;
esac
