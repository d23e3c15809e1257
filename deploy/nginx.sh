#!/bin/sh
# Install nginx for the tests that put one in front of two APIs, where there is none. Knows Debian's package, and needs
# root for it; anywhere else it says so in one line, and leaves it to you. It is installed, not started.
set -eu

# Debian puts it where only root's PATH leads.
if command -v nginx >/dev/null 2>&1 || [ -x /usr/sbin/nginx ]; then
    exit 0
fi

refuse() {
    echo "nginx: $1: install nginx by hand, so that \`nginx\` is in PATH" >&2
    exit 1
}

grep -qs '^ID=debian$' /etc/os-release || refuse "this is not Debian"
[ "$(id -u)" = 0 ] || refuse "this needs root"

echo "nginx: installing nginx" >&2
log=$(mktemp)
policy=/usr/sbin/policy-rc.d
trap 'rm -f "$log" "${written:-$log}"' EXIT
# The package would start a server on port 80. 101 says that nothing is to be started.
if [ ! -e $policy ]; then
    written=$policy
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
fi
# Bounded, because a mirror that hangs would hang whoever waits for the tests.
install() {
    export DEBIAN_FRONTEND=noninteractive
    timeout 120 apt-get -qq -o Acquire::Retries=2 update &&
        timeout 240 apt-get -qq -y -o Acquire::Retries=2 --no-install-recommends install nginx
}
if ! install >"$log" 2>&1; then
    refuse "apt-get failed ($(tail -n 1 "$log"))"
fi
