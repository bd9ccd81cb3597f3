#!/bin/sh
# Builds once, runs every test, fails on a failed, ignored or filtered one, and says how many ran.
set -eu
cd "$(dirname "$0")/.."
mkdir -p target
log=target/test.log

echo "run.sh: building (the first time takes minutes)"
cargo build --workspace --bins --lib
cargo test --workspace --all-targets --no-run

echo "run.sh: running"
status=0
{ cargo test --workspace --all-targets --no-fail-fast 2>&1 || echo "run.sh: cargo test failed"; } | tee "$log"
if grep -q '^run.sh: cargo test failed$' "$log"; then status=1; fi

awk -v status="$status" '
    /^test result: / {
        for (i = 1; i <= NF; i++) {
            if ($i == "passed;") passed += $(i - 1)
            if ($i == "failed;") failed += $(i - 1)
            if ($i == "ignored;") skipped += $(i - 1)
            if ($i == "filtered") skipped += $(i - 1)
        }
    }
    END {
        printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
        if (status != 0 || failed > 0 || skipped > 0 || passed == 0) exit 1
    }' "$log"
