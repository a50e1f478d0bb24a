#!/bin/sh
# Makes sure that what the build needs is there; installs it where that is allowed.
set -eu

missing=""
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need cc build-essential
need cmake cmake
need git git
need openssl openssl

if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing:$missing"
        apt-get update -qq
        # shellcheck disable=SC2086 # a list of packages
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null
    else
        echo "missing:$missing; install them as root: apt-get install$missing" >&2
        exit 1
    fi
fi
command -v cargo >/dev/null 2>&1 || { echo "missing: Rust 1.95 or later (cargo)" >&2; exit 1; }
