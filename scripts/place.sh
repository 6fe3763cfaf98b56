# shellcheck shell=bash disable=SC2034,SC2154 # quickstart reads and sets these
# Where the state lies, and who does what.

RUN_AS=()	# a prefix for what the services' user does; empty: we are that user
choose_user() {
	local owner
	[ "$(id -u)" = 0 ] || { [ -w "$TOP" ] || die "$TOP is not yours: clone it again as yourself"; return 0; }
	owner=$(stat -c %u "$TOP")
	if [ "$owner" != 0 ] && getent passwd "$owner" >/dev/null; then
		OWNER=$owner
	else
		RUN_AS=(setpriv --reuid=www-data --regid=www-data --clear-groups)
	fi
}

as_run() { ${RUN_AS[@]+"${RUN_AS[@]}"} "$@"; }

# What only root can do for an owner who is not root: root_part [test]
root_part() {
	[ -n "${OWNER-}" ] || return 0
	STATE=$(mktemp -d)
	mkdir "$STATE/log"
	packages "${1-}"
	rm -rf "$STATE"
}

# Goes on as the clone's owner, once root has done what only root can.
become_owner() {
	local name home
	[ -n "${OWNER-}" ] || return 0
	name=$(getent passwd "$OWNER" | cut -d: -f1)
	home=$(getent passwd "$OWNER" | cut -d: -f6)
	HOME=$home USER=$name LOGNAME=$name exec setpriv --reuid="$name" \
	    --regid="$(id -g "$name")" --init-groups "$SELF" "$@"
}

# Socket paths end at 107 bytes, and no quoting rule of four programs is worth a space.
fits_here() {
	local longest=$TOP/run/data/s/.s.PGSQL.5432
	[ ${#longest} -le 104 ] || return 1
	case $TOP in *[!A-Za-z0-9._/+@-]*) return 1 ;; esac
	[ ${#RUN_AS[@]} -eq 0 ] || as_run env -C "$TOP" true 2>/dev/null
}

find_state() {
	STATE=$TOP/run
	[ ! -L "$TOP/run" ] || STATE=$(readlink "$TOP/run")
	APP=$STATE/app/usr
	DATA=$STATE/data
}

make_state() {
	if [ -L "$TOP/run" ] && [ ! -O "$(readlink "$TOP/run")" ]; then
		rm -f "$TOP/run"	# /var/tmp was swept
	fi
	if [ ! -e "$TOP/run" ]; then
		if fits_here; then
			mkdir "$TOP/run"
		else
			ln -s "$(mktemp -d /var/tmp/parley-XXXXXXXX)" "$TOP/run"
		fi
	fi
	find_state
	chmod 0711 "$STATE"
	mkdir -p "$STATE/app" "$STATE/log"
	chmod 0700 "$STATE/log"
	if [ ! -d "$DATA" ]; then
		mkdir -m 0700 "$DATA"
		[ ${#RUN_AS[@]} -eq 0 ] || chown www-data:www-data "$DATA"
	fi
}

# Two at the same time: the second waits, then finds everything done.
lock() {
	exec 9<"$TOP"
	flock -n 9 && return 0
	say "Another quickstart is at work here; waiting for it."
	flock -w 3600 9 || die "it did not end within an hour"
}

# Writes a file of the services' user from standard input.
put() {
	(umask 077 && as_run tee "$1.new" >/dev/null) && as_run mv "$1.new" "$1"
}

# A file of random letters, made once.
secret() {
	as_run test -s "$1" || head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' | put "$1"
}
