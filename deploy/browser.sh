#!/bin/sh
# Install Chromium for the browser tests where there is none. Knows Debian's package, and needs root for it; anywhere
# else it says so in one line, and leaves it to you.
set -eu

for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null 2>&1; then
        exit 0
    fi
done

refuse() {
    echo "browser: $1: install Chromium by hand, so that \`chromium\` is in PATH" >&2
    exit 1
}

# Other systems' package of that name is only a pointer to a store of their own.
grep -qs '^ID=debian$' /etc/os-release || refuse "this is not Debian"
[ "$(id -u)" = 0 ] || refuse "this needs root"

echo "browser: installing Chromium" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Bounded, because a mirror that hangs would hang whoever waits for the tests.
install() {
    export DEBIAN_FRONTEND=noninteractive
    timeout 120 apt-get -qq -o Acquire::Retries=2 update &&
        timeout 480 apt-get -qq -y -o Acquire::Retries=2 --no-install-recommends install chromium fonts-dejavu-core
}
if ! install >"$log" 2>&1; then
    refuse "apt-get failed ($(tail -n 1 "$log"))"
fi
