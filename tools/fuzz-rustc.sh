#!/bin/sh
# Stands in front of rustc in a build of the fuzz targets: what reads input is watched by the fuzzer,
# all else is built as ever. The pass is LLVM's own, so the stable compiler has it.
set -eu
for argument in "$@"; do
    case "$argument" in
    kubeng_config | kubeng_proxy | httparse | rustls)
        llvm=-Cllvm-args=-sanitizer-coverage
        exec "$@" -Cpasses=sancov-module "$llvm-level=4" "$llvm-inline-8bit-counters" \
            "$llvm-pc-table" "$llvm-trace-compares"
        ;;
    esac
done
exec "$@"
