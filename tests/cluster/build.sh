#!/bin/sh
# Builds kubebox: build.sh OUT
#
# Exits 77 with a reason where it cannot be built, which tests take as "skip".
set -eu

[ $# -eq 1 ] || { echo "usage: build.sh OUT" >&2; exit 2; }
case $1 in
/*) out=$1 ;;
*) out=$PWD/$1 ;;
esac
cd "$(dirname "$0")/kubebox"

need=$(awk '$1 == "go" { print $2 }' go.mod)
if ! command -v go >/dev/null; then
    echo "skipped: Go $need or later is not installed"
    exit 77
fi
# A toolchain that Go would fetch by itself is not "installed".
export GOTOOLCHAIN=local
have=$(go env GOVERSION | sed 's/^go//; s/[^0-9.].*//')
if [ "$(printf '%s\n' "$need" "$have" | sort -V | head -n 1)" != "$need" ]; then
    echo "skipped: Go $need or later is needed, $have is installed"
    exit 77
fi

# All flags that decide what is built are ours, so that everybody shares the
# cache and nobody's -mod=mod rewrites go.mod. Without cgo no C compiler is needed.
export GOFLAGS= CGO_ENABLED=0
# /version would else say v0.0.0, which clients take for a server before 1.0.
version=$(awk '$1 == "k8s.io/kubernetes" { print $2 }' go.mod)
minor=${version#v1.}
about=k8s.io/component-base/version
exec go build -mod=readonly -buildvcs=false -trimpath -ldflags "-s -w
    -X $about.gitVersion=$version -X $about.gitMajor=1 -X $about.gitMinor=${minor%%.*}" -o "$out" .
