#!/bin/sh
# Fuzzes every target for SECONDS_EACH seconds (10 unless told), or the one in TARGET.
#
# The stable compiler does (see fuzz-rustc.sh); our code is without `unsafe`, so no sanitizer of memory
# is needed. With SEED=0 a run takes another way each time; for hours by hand:
# make fuzz SECONDS=3600 SEED=0.
set -eu

seconds=${SECONDS_EACH:-10}
seed=${SEED:-1}
dir=target/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')

case "$host" in
*-linux-gnu) ;;
*)
    echo "skipped: fuzzing, because libFuzzer is only known to work on Linux, not on $host"
    exit 0
    ;;
esac
if ! command -v c++ >/dev/null 2>&1; then
    echo "skipped: fuzzing, because a C++ compiler for libFuzzer is missing (c++)"
    exit 0
fi

RUSTC_WRAPPER="$PWD/tools/fuzz-rustc.sh" cargo build --quiet --locked \
    --manifest-path fuzz/Cargo.toml --target-dir "$dir"

failed=""
for file in fuzz/fuzz_targets/*.rs; do
    name=$(basename "$file" .rs)
    [ -z "${TARGET:-}" ] || [ "$TARGET" = "$name" ] || continue
    # What is found goes to a folder of its own: the seeds in the repository stay small.
    mkdir -p "$dir/corpus/$name" "$dir/finds/$name"
    log="$dir/finds/$name.log"
    if "$dir/debug/$name" "$dir/corpus/$name" "fuzz/corpus/$name" \
        -max_total_time="$seconds" -seed="$seed" -timeout=5 -rss_limit_mb=1024 -max_len=4096 \
        -artifact_prefix="$dir/finds/$name/" -print_final_stats=1 >"$log" 2>&1; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        covered=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
        echo "$name: $runs runs in $seconds s, $covered places reached, nothing found"
    else
        tail -n 30 "$log"
        echo "$name: FAILED; the input is in $dir/finds/$name, the log beside it"
        failed="$failed $name"
    fi
done
[ -z "$failed" ] || { echo "failed:$failed; keep each input in fuzz/corpus when it is mended"; exit 1; }
