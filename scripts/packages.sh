# shellcheck shell=bash disable=SC2034,SC2154 # quickstart reads and sets these
# What quickstart needs of Debian, and how it is installed without a service being touched.

BUILD_PACKAGES="autoconf automake make gcc libc6-dev pkg-config libcurl4-openssl-dev libevent-dev
	libfcgi-dev libinih-dev libjson-c-dev libjwt-dev libpq-dev libseccomp-dev libssl-dev"
RUN_PACKAGES="ca-certificates curl multiwatch perl spawn-fcgi"
# The other web servers and the pooler that Parley is at home with, and what builds and judges its Debian package.
TEST_PACKAGES="apache2 chromium debhelper dpkg-dev fakeroot libapache2-mod-fcgid libcrypt-jwt-perl libdbd-pg-perl
	libjson-validator-perl libjson-xs-perl libyaml-libyaml-perl lighttpd lighttpd-mod-openssl lintian mandoc mmdebstrap pgbouncer procps shellcheck systemd"
# What the services are made of that `make bench-peers` sets beside Parley; nothing else wants it.
PEER_PACKAGES="python3 python3-aiohttp python3-asyncpg python3-fastapi python3-greenlet python3-httptools
	python3-jwt python3-sqlmodel python3-uvicorn python3-uvloop"

is_installed() {
	[ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# The newest directory of PostgreSQL server programs, 15 or later.
pg_bindir() {
	local dir version best='' newest=14
	for dir in /usr/lib/postgresql/*/bin; do
		version=${dir#/usr/lib/postgresql/}
		version=${version%/bin}
		case $version in *[!0-9]*) continue ;; esac
		if [ -x "$dir/initdb" ] && [ "$version" -gt "$newest" ]; then
			newest=$version best=$dir
		fi
	done
	[ -n "$best" ] && printf '%s\n' "$best"
}

nginx_program() {
	PATH=$PATH:/usr/sbin:/usr/local/sbin command -v nginx
}

# packages_missing [test|peers]: names, one a line
packages_missing() {
	local name wanted="$BUILD_PACKAGES $RUN_PACKAGES"
	[ "${1-}" = test ] && wanted="$wanted $TEST_PACKAGES"
	[ "${1-}" = peers ] && wanted="$wanted $PEER_PACKAGES"
	for name in $wanted; do
		is_installed "$name" || printf '%s\n' "$name"
	done
	pg_bindir >/dev/null || printf 'postgresql\n'
	# Any of Debian's flavours will do.
	nginx_program >/dev/null || printf 'nginx-light\n'
}

# For the time of the installation: no package starts its service, and PostgreSQL's
# does not create its "main" cluster.  What was there before is there after.
POLICY=/usr/sbin/policy-rc.d
CLUSTER=/etc/postgresql-common/createcluster.d
guard_on() {
	trap guard_off EXIT
	trap 'exit 130' INT TERM HUP
	if [ ! -e $POLICY ]; then
		printf '#!/bin/sh\n# parley quickstart: for the time of an installation\nexit 101\n' >$POLICY
		chmod 755 $POLICY
	fi
	CLUSTER_MADE=$(mkdir -p -v $CLUSTER | wc -l)
	printf '# parley quickstart: for the time of an installation\ncreate_main_cluster = false\n' \
	    >$CLUSTER/zz-parley-quickstart.conf
}

guard_off() {
	# Also one that a killed installation left behind.
	if grep -q '^# parley quickstart:' $POLICY 2>/dev/null; then
		rm -f $POLICY
	fi
	rm -f $CLUSTER/zz-parley-quickstart.conf
	if [ "${CLUSTER_MADE:-0}" -gt 0 ]; then
		rmdir --ignore-fail-on-non-empty $CLUSTER 2>/dev/null || true
	fi
}

# packages_install [test|peers]: what `sudo ./quickstart packages` does
packages_install() {
	local missing fresh=() unit
	[ "$(id -u)" = 0 ] || die "installing packages needs root"
	# Two clones may be at this at the same time.
	exec 8</var/lib/dpkg
	flock 8
	mapfile -t missing < <(packages_missing "${1-}")
	[ ${#missing[@]} -gt 0 ] || return 0
	for unit in apache-htcacheclean apache2 lighttpd nginx pgbouncer postgresql; do
		[ -e "/etc/init.d/$unit" ] || fresh+=("$unit")
	done
	export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
	guard_on
	# A fresh machine has no lists, an old one has lists of packages that are gone.
	apt-get -q -y -o DPkg::Lock::Timeout=600 update </dev/null 8<&- 9<&- || true
	apt-get -q -y -o DPkg::Lock::Timeout=600 -o Dpkg::Options::=--force-confold \
	    --no-install-recommends --no-upgrade install "${missing[@]}" </dev/null 8<&- 9<&-
	# A package brings its service enabled for the next boot; nobody asked for that.
	for unit in ${fresh[@]+"${fresh[@]}"}; do
		update-rc.d "$unit" disable || true
	done
}

packages() {
	local missing hint
	command -v apt-get >/dev/null ||
	    die "this script knows Debian and its relatives; README says what Parley needs elsewhere"
	mapfile -t missing < <(packages_missing "${1-}")
	[ ${#missing[@]} -gt 0 ] || return 0
	hint="as root: apt-get install --no-install-recommends ${missing[*]}"
	LOG=$STATE/log/install.log
	say "Missing packages: ${missing[*]}"
	if [ "$(id -u)" = 0 ]; then
		step "Installing them" "$SELF" packages "${1-}"
	elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
		step "Installing them, with sudo" sudo -n "$SELF" packages "${1-}"
	elif command -v sudo >/dev/null && [ -t 0 ]; then
		sudo -v || die "without sudo: $hint"
		step "Installing them, with sudo" sudo "$SELF" packages "${1-}"
	else
		die "they cannot be installed by $(id -un); $hint"
	fi
	mapfile -t missing < <(packages_missing "${1-}")
	[ ${#missing[@]} -eq 0 ] || die "still missing: ${missing[*]}"
}
