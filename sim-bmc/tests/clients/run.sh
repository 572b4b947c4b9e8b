#!/bin/sh
# Runs other people's Redfish clients against `sim-bmc serve`: DMTF's service and protocol validators and use case
# checkers, DMTF's python library, and OpenStack's sushy. Needs python3 with venv, and PyPI (or a filled pip cache).
#
#   sim-bmc/tests/clients/run.sh CSDL_DIRECTORY [PERSONALITY ...]
#
# CSDL_DIRECTORY holds the csdl/*.xml files of DSP8010 release 2025.4 (github.com/DMTF/Redfish-Publications, folder csdl);
# it is copied, since the validator may write into it. Reports are left in $WORK. Exits 0 if no client finds a failure.
set -eu

usage() {
    echo "usage: $0 CSDL_DIRECTORY [PERSONALITY ...]" >&2
    exit 2
}

[ $# -ge 1 ] && [ -d "$1" ] || usage
csdl=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- small-vm cpu-epyc dgx-h100
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
WORK=${WORK:-/tmp/sim-bmc-clients}
PORT=${PORT:-18443}
url=https://127.0.0.1:$PORT

# The tools check certificates against these when they are set, whatever --no-cert-check says.
unset REQUESTS_CA_BUNDLE CURL_CA_BUNDLE

mkdir -p "$WORK/empty"
if [ ! -x "$WORK/venv/bin/rf_protocol_validator" ]; then
    python3 -m venv "$WORK/venv"
    "$WORK/venv/bin/pip" install -q redfish_service_validator==3.1.8 redfish_protocol_validator==1.3.2 \
        redfish_use_case_checkers==2.1.1 redfish sushy
fi
rm -rf "$WORK/csdl" && cp -r "$csdl" "$WORK/csdl"
(cd "$root" && cargo build -q -p sim-bmc --bin sim-bmc)
bin=${CARGO_TARGET_DIR:-$root/target}/debug/sim-bmc

failed=0
server=
stop() { [ -z "$server" ] || kill "$server" 2>/dev/null || true; }
trap stop EXIT
# The validators read config.ini from the current directory.
cd "$WORK/empty"
for personality in "$@"; do
    out=$WORK/$personality
    mkdir -p "$out"
    "$bin" serve --listen "127.0.0.1:$PORT" --personality "$personality" --username admin --password secret \
        --power-ms 300 >"$out/server.out" 2>"$out/server.log" &
    server=$!
    until [ -s "$out/server.out" ]; do kill -0 "$server" || exit 1; sleep 0.1; done

    run() {
        name=$1
        shift
        if "$@" >"$out/$name.log" 2>&1; then verdict=ok; else verdict=FAILED failed=1; fi
        echo "$personality $name: $verdict  $(grep -E 'Summary -|^\|  +[0-9]|checks passed' "$out/$name.log" | tail -1)"
    }
    run service-validator "$WORK/venv/bin/rf_service_validator" -r "$url" -u admin -p secret \
        --schema_directory "$WORK/csdl" --skipschema --logdir "$out"
    run protocol-validator "$WORK/venv/bin/rf_protocol_validator" -r "$url" -u admin -p secret --no-cert-check \
        --report-dir "$out" --report-type tsv
    run use-case-checkers "$WORK/venv/bin/rf_use_case_checkers" -r "$url" -u admin -p secret --report-dir "$out"
    run sushy "$WORK/venv/bin/python" "$here/sushy_flow.py" "$url" admin secret
    run redfish "$WORK/venv/bin/python" "$here/redfish_flow.py" "$url" admin secret
    kill "$server"
    wait "$server" 2>/dev/null || true
    server=
done
exit $failed
