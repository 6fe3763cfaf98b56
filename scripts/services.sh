# shellcheck shell=bash disable=SC2034,SC2154 # quickstart reads and sets these
# Services: a pid file each, believed only where /proc agrees.

SERVICES="nginx workers model postgres"

pid_of() {
	local pid
	case $1 in
	postgres) pid=$(as_run head -n 1 "$DATA/pg/postmaster.pid" 2>/dev/null) ;;
	nginx) pid=$(as_run cat "$DATA/nginx/nginx.pid" 2>/dev/null) ;;
	*) pid=$(cat "$STATE/$1.pid" 2>/dev/null) ;;
	esac || return 1
	case $pid in '' | *[!0-9]*) return 1 ;; esac
	# Each of them has a path of this directory on its command line.
	{ tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null | grep -qF -- "$STATE/" || return 1
	printf '%s\n' "$pid"
}

# What the services know of the world: paths, locale, proxies, and PARLEY_* but for what
# their configuration says.  A DATABASE_URL of somebody's other project is not ours.
service_env() {
	SERVICE_ENV=(env -i PATH="$PATH:/usr/sbin" HOME="$DATA" LANG=C.UTF-8 PARLEY_CONF="$DATA/parley.conf")
	local name
	for name in $(compgen -e); do
		case $name in
		PARLEY_PORT | PARLEY_CONF | PARLEY_DATABASE_* | PARLEY_AUTH_SECRET* | PARLEY_MODEL_*) ;;
		PARLEY_* | TZ | http_proxy | https_proxy | no_proxy | HTTPS_PROXY | NO_PROXY | SSL_CERT_FILE | SSL_CERT_DIR)
			SERVICE_ENV+=("$name=${!name}") ;;
		esac
	done
}

# service NAME command...: in the background, as the services' user, with a log
service() {
	local name=$1
	shift
	setsid ${RUN_AS[@]+"${RUN_AS[@]}"} "${SERVICE_ENV[@]}" "$@" \
	    >>"$STATE/log/$name.log" 2>&1 </dev/null 9>&- &
	printf '%s\n' $! >"$STATE/$name.pid"
}

# stop_service NAME SIGNAL SECONDS
stop_service() {
	local pid children end=$((SECONDS + $3))
	pid=$(pid_of "$1") || { rm -f "$STATE/$1.pid"; return 0; }
	children=$(cat "/proc/$pid/task/$pid/children" 2>/dev/null || true)
	kill -"$2" "$pid" 2>/dev/null || die "process $pid ($1) does not belong to $(id -un): run this as root"
	while pid_of "$1" >/dev/null && [ $SECONDS -lt $end ]; do
		sleep 0.1
	done
	if pid_of "$1" >/dev/null; then
		# shellcheck disable=SC2086 # a list
		kill -KILL "$pid" $children 2>/dev/null || true
	fi
	rm -f "$STATE/$1.pid"
}

stop_nginx() { stop_service nginx QUIT 10; }
# They let the turns that run come to their end (worker.drain_timeout, 25 s).
stop_workers() { stop_service workers TERM 35; }
stop_model() { stop_service model TERM 5; }
stop_postgres() { stop_service postgres INT 30; }

port_is_busy() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
