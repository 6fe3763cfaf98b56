# shellcheck shell=bash disable=SC2034,SC2154 # quickstart reads and sets these
# Starting each service, unless it runs already and is the right one.

# wait_until SECONDS command...: polls
wait_until() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.1
	done
}

start_postgres() {
	local bin
	LOG=$STATE/log/postgres.log
	bin=$(pg_bindir)
	if as_run test -s "$DATA/pg/PG_VERSION"; then
		bin=/usr/lib/postgresql/$(as_run cat "$DATA/pg/PG_VERSION")/bin
		[ -x "$bin/postgres" ] || die "the cluster in run/data/pg needs the programs of $bin"
	else
		step "Creating the database cluster" as_run "${SERVICE_ENV[@]}" "$bin/initdb" -D "$DATA/pg.new" -U postgres \
		    -A trust -E UTF8 --locale=C.UTF-8 --no-instructions
		as_run mkdir -p -m 0700 "$DATA/s"
		# Nobody else can enter the directory of the socket, so the socket asks no password.
		printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$DATA/s'" "port = 5432" \
		    | as_run tee -a "$DATA/pg.new/postgresql.conf" >/dev/null
		as_run mv "$DATA/pg.new" "$DATA/pg"
	fi
	PSQL=(as_run "${SERVICE_ENV[@]}" "$bin/psql" -X -q -h "$DATA/s" -U postgres)
	if ! pid_of postgres >/dev/null; then
		step "Starting PostgreSQL" as_run "${SERVICE_ENV[@]}" "$bin/pg_ctl" -s -w -t 60 -D "$DATA/pg" -l "$DATA/pg.log" start
	fi
	if [ "$("${PSQL[@]}" -A -t -d postgres -c "SELECT count(*) FROM pg_database WHERE datname = 'parley'")" = 0 ]; then
		"${PSQL[@]}" -d postgres -c 'CREATE DATABASE parley' >>"$LOG" 2>&1 || die "the database could not be created"
	fi
}

start_model() {
	LOG=$STATE/log/model.log
	if [ -n "$MODEL_URL" ]; then
		stop_model
		: >"$STATE/model.foreign"
		return 0
	fi
	rm -f "$STATE/model.foreign"
	if pid_of model >/dev/null && cmp -s "$APP/bin/parley-demo-model" "/proc/$(pid_of model)/exe"; then
		:
	else
		stop_model
		as_run rm -f "$DATA/model.port"
		service model "$APP/bin/parley-demo-model" --listen 127.0.0.1:0 --port-file "$DATA/model.port"
		wait_until 20 as_run test -s "$DATA/model.port" || die "the demo model did not start"
	fi
	MODEL_URL=http://127.0.0.1:$(as_run cat "$DATA/model.port")/v1
}

write_conf() {
	secret "$DATA/token.secret"
	secret "$DATA/log.key"
	if [ -n "$MODEL_KEY" ]; then
		printf '%s\n' "$MODEL_KEY" | put "$DATA/model.key"
	else
		as_run rm -f "$DATA/model.key"
	fi
	{
		printf '# Written by ./quickstart.  All keys: conf/parley.conf, parley.conf(5).\n'
		printf '[database]\nurl = postgresql://parley_worker@/parley?host=%s\n' "$DATA/s"
		printf 'owner_url = postgresql://postgres@/parley?host=%s\n' "$DATA/s"
		printf '[auth]\nsecret_file = %s\n' "$DATA/token.secret"
		printf '[model]\nbase_url = %s\nmodel = %s\n' "$MODEL_URL" "$MODEL_NAME"
		[ -z "$MODEL_KEY" ] || printf 'key_file = %s\n' "$DATA/model.key"
		printf '[agent]\ninstructions_file = %s\n' "$APP/share/parley/instructions.txt"
		printf '[log]\nuser_key_file = %s\n' "$DATA/log.key"
	} | put "$DATA/parley.conf"
}

ctl() { as_run "${SERVICE_ENV[@]}" "$APP/bin/parleyctl" "$@"; }

start_workers() {
	local sum
	LOG=$STATE/log/workers.log
	sum=$(cat "$APP/sbin/parley.fcgi" "$APP/share/parley/instructions.txt" "$SELF" <(as_run cat "$DATA/parley.conf") \
	    <(as_run cat "$DATA/model.key" 2>/dev/null) | sha256sum)
	if pid_of workers >/dev/null && [ "$sum" = "$(cat "$STATE/workers.sum" 2>/dev/null)" ]; then
		return 0
	fi
	stop_workers
	as_run rm -f "$DATA/parley.sock"
	# A worker that dies is replaced; spawn-fcgi does not look along PATH.
	service workers "$(command -v spawn-fcgi)" -n -b 32768 -M 0600 -s "$DATA/parley.sock" -- \
	    "$(command -v multiwatch)" -r 100 -f "$(nproc)" -- "$APP/sbin/parley.fcgi"
	printf '%s\n' "$sum" >"$STATE/workers.sum"
	say "Started $(nproc) workers."
}

start_nginx() {
	local limit before after dir=$DATA/nginx
	LOG=$STATE/log/nginx.log
	as_run mkdir -p -m 0700 "$dir"
	limit=$(ulimit -Hn)
	[ "$limit" != unlimited ] && [ "$limit" -lt 32768 ] || limit=32768
	before=$(as_run cat "$dir/nginx.conf" "$dir/parley.conf" 2>/dev/null | sha256sum) || true
	sed "s|worker_rlimit_nofile .*;|worker_rlimit_nofile $limit;|" "$TOP/conf/nginx/nginx.conf" | put "$dir/nginx.conf"
	sed -e "s|listen 80;|listen 127.0.0.1:$PORT backlog=4096;|" \
	    -e "s|unix:/run/parley/parley.sock|unix:$DATA/parley.sock|" \
	    -e "s|/usr/local/share/parley/web|$APP/share/parley/web|" \
	    "$TOP/conf/nginx/parley.conf" | put "$dir/parley.conf"
	after=$(as_run cat "$dir/nginx.conf" "$dir/parley.conf" | sha256sum)
	if pid_of nginx >/dev/null && [ "$before" = "$after" ]; then
		return 0
	fi
	stop_nginx
	as_run "${SERVICE_ENV[@]}" "$(nginx_program)" -p "$dir/" -c "$dir/nginx.conf" -e "$dir/nginx.log" >>"$LOG" 2>&1 9>&- \
	    || die "nginx did not start on 127.0.0.1:$PORT"
	printf '%s\n' "$PORT" >"$STATE/port"
	say "Started nginx."
}
