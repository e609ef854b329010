#!/bin/sh
# Builds and runs the C tests of the link: run.sh [SECONDS] [thread|address|none]...
# With each sanitizer: the golden vectors, then stress over both transports and all
# three ways of reading.
set -eu
cd "$(dirname "$0")"
seconds=${1:-2}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- thread address
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
# One that hangs is ended, and what it is gets said.
limit=
if command -v timeout >/dev/null; then limit="timeout -s ABRT $((seconds + 60))"; fi
core=$(ls ../*.c | grep -v -e /wsgi -e /asgi -e /module -e /store_)
build() {
    # -w: GCC says of every fence that ThreadSanitizer does not model it.
    # shellcheck disable=SC2086
    ${CC:-cc} -std=gnu11 -g -O1 -w -pthread $flags "$@" host.c $core
}
for sanitizer in "$@"; do
    case $sanitizer in
    thread) flags="-fsanitize=thread" ;;
    address) flags="-fsanitize=address,undefined -fno-sanitize-recover=undefined" ;;
    none) flags="" ;;
    esac
    build -o "$out/vectors" vectors.c
    "$out/vectors" ../../../../protocol/vectors
    build -o "$out/stress" stress.c loop_app.c state_app.c
    for mode in threads loop mixed; do
        for transport in shm socket; do
            $limit "$out/stress" "$transport" "$mode" "$seconds" || {
                code=$?
                echo "stress $transport $mode with the $sanitizer sanitizer: exit $code (124: it hangs)" >&2
                exit $code
            }
        done
    done
done
