#!/bin/sh
# Spelling in code and documents.
set -eu

version=1.52.0
tools=target/tools/typos
if [ ! -x "$tools/bin/typos" ]; then
    if ! command -v python3 >/dev/null 2>&1; then
        echo "skipped: typos, because python3 is missing"
        exit 0
    fi
    python3 -m pip install --quiet --disable-pip-version-check --target "$tools" "typos==$version"
fi
"$tools/bin/typos"
