#!/bin/sh
# Dependencies that are declared and not used.
set -eu

version=0.9.2
tools=target/tools
if [ ! -x "$tools/bin/cargo-machete" ]; then
    cargo install --quiet --locked --root "$tools" --version "$version" cargo-machete
fi
"$tools/bin/cargo-machete" .
