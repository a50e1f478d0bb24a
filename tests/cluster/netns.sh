#!/bin/sh
# Runs a command in a fresh network namespace with extra addresses on lo:
#
#     netns.sh RUN-NAME 10.50.0.1,10.50.0.2 -- command args
#
# An address is an IPv4 or IPv6 address, with a range in its last number
# (10.50.0.1..20) or with a prefix length (10.60.0.0/24 makes all of it local);
# "-" means none. The command finds RUN-NAME in KUBEBOX_NETNS.
#
# The command replaces this shell: same process, so signals and the exit code
# are its own, and the namespace goes with its last process. Exits 77 with a
# reason where namespaces cannot be made, which tests take as "skip".
set -eu

if [ $# -lt 4 ] || [ "$3" != "--" ]; then
    echo "usage: netns.sh RUN-NAME ADDRESS,ADDRESS|- -- command args" >&2
    exit 2
fi

for tool in unshare ip; do
    command -v $tool >/dev/null || { echo "skipped: $tool is not installed"; exit 77; }
done
# Who is not root may still be root of a user namespace of his own.
how="--net"
[ "$(id -u)" -eq 0 ] || how="--user --map-root-user --net"
if ! reason=$(unshare $how true 2>&1); then
    echo "skipped: no network namespace: $reason"
    exit 77
fi

KUBEBOX_NETNS=$1 exec unshare $how sh -eu -c '
    ip link set lo up
    for address in $(echo "$2" | tr , " "); do
        case $address in
        -) continue ;;
        *..*)
            first=${address%%..*}
            prefix=${first%.*}
            for last in $(seq "${first##*.}" "${address##*..}"); do
                ip address add "$prefix.$last/32" dev lo
            done
            continue ;;
        */*) ;;
        # An IPv6 address would else wait for duplicates that cannot be.
        *:*) address="$address/128 nodad" ;;
        *) address=$address/32 ;;
        esac
        ip address add $address dev lo
    done
    shift 3
    exec "$@"
' netns.sh "$@"
