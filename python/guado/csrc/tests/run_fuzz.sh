#!/bin/sh
# Fuzzes the C decoders and the filing of frames: run_fuzz.sh [SECONDS] [CORPUS].
# Seeds are the golden vectors and whatever CORPUS holds; needs clang.
set -eu
cd "$(dirname "$0")"
seconds=${1:-20}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
corpus=${2:-$out/corpus}
core=$(ls ../*.c | grep -v -e /wsgi -e /asgi -e /module -e /store_)
for target in fuzz_frame fuzz_link fuzz_records; do
    mkdir -p "$corpus/$target"
    python3 ../../../tests/fuzz_seeds.py "$corpus/$target" "$target"
    # shellcheck disable=SC2086
    clang -std=gnu11 -g -O1 -w -pthread -fsanitize=fuzzer,address,undefined \
        -fno-sanitize-recover=undefined $target.c $core -o "$out/$target"
    "$out/$target" -max_total_time="$seconds" -max_len=8192 -timeout=10 -print_final_stats=1 \
        -artifact_prefix="./$target-" "$corpus/$target"
done
