#!/bin/sh
# Kubeng beside the peers, with one worker each:
#
#     compare.sh                          every kind, 5 rounds of 4 s
#     compare.sh h1 tls -- --rounds 8     these kinds; what follows -- goes to peers.py
#
# KUBENG names the program; without it the release build of this workspace is
# made and taken. The peers of install.sh are found by themselves.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}

kinds=""
while [ $# -gt 0 ] && [ "$1" != "--" ]; do
    kinds="$kinds $1"
    shift
done
[ $# -eq 0 ] || shift

if [ -z "${KUBENG:-}" ]; then
    cargo build --quiet --release --manifest-path "$root/Cargo.toml" --package kubeng
    KUBENG=$target/release/kubeng
fi
export KUBENG
export PATH="$PATH:/usr/sbin:$target/peers-venv/bin"
export PYTHONDONTWRITEBYTECODE=1

for kind in ${kinds:-h1 tls h2 handshake idle}; do
    "$here/peers.py" "$kind" --base nginx "$@"
done
