#!/usr/bin/env bash
# The long conformance runs: raw-socket cases, h2spec (installed from a registry) over
# TLS and with prior knowledge, all cases of the Autobahn suite of WebSocket, Django's form and admin patterns against a live server.
set -euo pipefail
cd "$(dirname "$0")/.."
go test -count=1 -timeout 20m ./test/conformance/...
want=v2.2.1+incompatible
if [ "$(cat .cache/stamp/h2spec 2>/dev/null)" != "$want" ]; then
  GOBIN=$PWD/.cache/bin go install "github.com/summerwind/h2spec/cmd/h2spec@$want"
  echo "$want" > .cache/stamp/h2spec
fi
GUADO_H2SPEC=$PWD/.cache/bin/h2spec go test -count=1 -timeout 20m -v -run H2spec ./test/conformance/...
tools/setup.sh conformance
GUADO_KOSOKU=$PWD/.cache/conformance/bin/kosoku go test -count=1 -timeout 40m -v -run Autobahn ./test/conformance/...
tools/pythons.sh ends | while read -r v _; do
  ".cache/venv-$v/bin/python" -m pytest -q -p no:cacheprovider test/conformance </dev/null
done
