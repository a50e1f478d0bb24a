#!/bin/bash
# Proves that kubebox works: builds it, runs it, uses it, and looks for leftovers.
#
#     smoke.sh                                          on the machine's own network
#     netns.sh smoke 10.50.0.1..20 -- ./smoke.sh        inside a namespace
#
# KUBEBOX names a program that is built already. Exits 77 where it cannot run.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

fail() { echo "FAILED: $*" >&2; tail -n 5 "$dir"/box/logs/*.log >&2 || true; exit 1; }
say() { printf '%6.1f s  %s\n' "$(elapsed)" "$*"; }
elapsed() { echo "$EPOCHREALTIME $started" | awk '{ print $1 - $2 }'; }
started=$EPOCHREALTIME

kubebox=${KUBEBOX:-$dir/kubebox}
[ -n "${KUBEBOX:-}" ] || "$here/build.sh" "$kubebox"
say "built, $(($(stat -c %s "$kubebox") / 1000000)) MB"

# kubectl keeps a cache in its home.
export HOME=$dir
kubectl() { "$kubebox" kubectl --kubeconfig "$dir/box/kubeconfig" "$@"; }

# Starts a control plane; its stdin and stdout are ${box[1]} and ${box[0]}.
start_box() {
    coproc box { exec "$kubebox" up --dir "$dir/box"; }
    up=$box_PID
    read -r greeting <&"${box[0]}" || fail "no greeting"
    list_children
}

list_children() { children=$(pgrep -P "$up" | tr '\n' ' '); }

# Sends a command; the answer must say that it went well.
tell() {
    echo "$1" >&"${box[1]}"
    read -r answer <&"${box[0]}" || fail "$1: no answer"
    [[ $answer == '{"ok":true,'* ]] || fail "$answer"
}

# Tries for ten seconds: the controllers work in their own time.
eventually() {
    for _ in {1..50}; do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.2
    done
    fail "never came true: $*"
}

no_child_is_left() {
    for pid in $children; do
        # A killed child may stay a moment until init has reaped it.
        for _ in {1..50}; do [ -d "/proc/$pid" ] || continue 2; sleep 0.1; done
        fail "process $pid is left: $(tr '\0' ' ' <"/proc/$pid/cmdline")"
    done
}

start_box
say "ready: $greeting"

kubectl apply -f "$here/smoke.yaml" >/dev/null
kubectl -n demo create secret tls certificate \
    --cert "$dir/box/pki/apiserver.crt" --key "$dir/box/pki/apiserver.key" >/dev/null
for object in service/hand-made service/selected endpointslice/hand-made secret/certificate \
    ingress/site ingressclass/kubeng serviceaccount/reader; do
    kubectl -n demo get "$object" -o name
done
say "objects written and listed"

# Proof that this is the real validation, and the reason for netns.sh.
if kubectl -n demo patch endpointslice hand-made --type=json \
    -p '[{"op":"replace","path":"/endpoints/0/addresses/0","value":"127.0.0.1"}]' 2>/dev/null; then
    fail "an EndpointSlice with a loopback address was accepted"
fi

token=$(kubectl -n demo create token reader)
# --kubeconfig would bring the administrator's certificate along.
server=$(sed -n 's/.*"server":"\([^"]*\)".*/\1/p' <<<"$greeting")
may() { "$kubebox" kubectl --kubeconfig /dev/null --server "$server" --token "$token" \
    --certificate-authority "$dir/box/pki/ca.crt" -n demo "$@" >/dev/null 2>&1; }
may get ingresses || fail "the token may not do what its Role allows"
if may get secrets; then fail "RBAC is off"; fi
say "RBAC and tokens work"

if [ -z "${KUBEBUILDER_ASSETS:-}" ]; then
    kubectl -n demo patch pod backend --subresource=status -p '{"status":{"phase":"Running",
        "podIP":"10.50.0.2","podIPs":[{"ip":"10.50.0.2"}],
        "conditions":[{"type":"Ready","status":"True"}]}}' >/dev/null
    endpoint() {
        kubectl -n demo get endpointslice -l kubernetes.io/service-name=selected \
            -o jsonpath='{.items[*].endpoints[*].addresses[*]}' | grep -qx 10.50.0.2
    }
    eventually endpoint
    kubectl create namespace short-lived >/dev/null
    eventually kubectl -n short-lived get configmap/kube-root-ca.crt serviceaccount/default
    kubectl delete namespace short-lived --timeout=30s >/dev/null
    say "controllers work"
fi

tell stop-apiserver
if kubectl get namespace demo >/dev/null 2>&1; then fail "stopped, but it answers"; fi
tell start-apiserver
kubectl -n demo get ingress/site service/hand-made >/dev/null
say "stopped, started on the same port, objects are there"

tell pause-apiserver
if kubectl get namespace demo --request-timeout=1s >/dev/null 2>&1; then fail "paused, but it answers"; fi
tell resume-apiserver
kubectl get namespace demo >/dev/null
say "paused and resumed"

list_children
tell quit
wait "$up" || fail "quit: exit code $?"
no_child_is_left
say "quit, nothing is left"

start_box
kubectl -n demo get ingress/site >/dev/null
tell stop-apiserver
tell start-apiserver
list_children
{ kill -KILL "$up" && wait "$up" || true; } 2>/dev/null
no_child_is_left
say "a second run found its data, was killed, and nothing is left"
echo "PASSED"
