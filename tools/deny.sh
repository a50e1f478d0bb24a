#!/bin/sh
# Licences, duplicate versions and sources of dependencies; advisories where the database is there.
set -eu

version=0.20.2
tools=target/tools
if [ ! -x "$tools/bin/cargo-deny" ]; then
    cargo install --quiet --locked --root "$tools" --version "$version" cargo-deny || {
        echo "skipped: cargo-deny $version cannot be installed" >&2
        exit 1
    }
fi
# It reads the sources of all dependencies, which a fresh machine does not have yet.
cargo fetch --quiet --locked
"$tools/bin/cargo-deny" --offline check bans licenses sources

# The advisory database is a public git repository; a dated copy may be named.
if [ -n "${KUBENG_ADVISORY_DB:-}" ]; then
    "$tools/bin/cargo-deny" --offline check --disable-fetch advisories
else
    echo "skipped: advisories, because KUBENG_ADVISORY_DB names no copy of the database"
fi
