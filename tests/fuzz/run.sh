#!/bin/sh
# Each fuzz target for FUZZ_SECONDS (600), guided by coverage; findings go to target/fuzz/findings and end it with 1.
#   TARGETS  which; all by default
#   KEEP=1   keeps in tests/fuzz/corpus what reaches code that nothing there reaches yet
# A stable compiler does: the coverage pass is LLVM's own. libFuzzer itself is C++.
set -eu
cd "$(dirname "$0")/../.."
seconds=${FUZZ_SECONDS:-600}
targets=${TARGETS:-segment camera parameters analysed described served}
command -v c++ >/dev/null || { echo "run.sh: libFuzzer is C++: apt-get install g++" >&2; exit 69; }

host=$(rustc -vV | sed -n 's/^host: //p')
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
# Named, so that what runs while building is not instrumented.
RUSTFLAGS="$coverage" cargo build --release --bins --manifest-path tests/fuzz/Cargo.toml --target "$host" \
    --target-dir target/fuzz

findings=target/fuzz/findings
mkdir -p "$findings"
failed=0
for target in $targets; do
    corpus=tests/fuzz/corpus/$target
    found=target/fuzz/corpus/$target
    mkdir -p "$found"
    fuzzer=target/fuzz/$host/release/$target
    status=0
    "$fuzzer" -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$findings/$target-" "$found" "$corpus" > "$findings/$target.log" 2>&1 || status=$?
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$findings/$target.log")
    rate=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$findings/$target.log")
    covered=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$findings/$target.log" | tail -n 1)
    echo "fuzz: $target: ${executions:-?} executions, ${rate:-?} a second, ${covered:-?} edges covered"
    if [ "$status" != 0 ]; then
        failed=1
        grep -E 'panicked|ERROR|SUMMARY|Test unit written' -A1 "$findings/$target.log" || tail -n 20 "$findings/$target.log"
    fi
    [ -z "${KEEP:-}" ] || "$fuzzer" -set_cover_merge=1 -max_len=4096 "$corpus" "$found" > "$findings/$target-kept.log" 2>&1
done
exit $failed
