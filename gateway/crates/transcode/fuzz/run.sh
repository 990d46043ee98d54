#!/bin/sh
# Fuzzes every target, each for as many seconds as the first argument says: sh run.sh 180. Installs cargo-fuzz at its first run.
set -eu
cd "$(dirname "$0")"
tools=$(cd ../../../.. && pwd)/target/judges/cargo-fuzz
[ -x "$tools/bin/cargo-fuzz" ] || cargo install --locked --quiet cargo-fuzz@0.13.2 --root "$tools"
# A stable compiler takes the sanitizer's flags so.
export RUSTC_BOOTSTRAP=1 PATH="$tools/bin:$PATH"
cargo fuzz build
for target in $(cargo fuzz list); do
    echo "== $target"
    # What is found lands in artifacts/; what is new goes beside the corpus in git, not into it.
    mkdir -p "found/$target"
    cargo fuzz run "$target" "found/$target" "corpus/$target" -- \
        -max_total_time="$1" -rss_limit_mb=1024 -malloc_limit_mb=64 -timeout=10 -verbosity=0 -print_final_stats=1
done
