#!/usr/bin/env bash
# Starts `postroom sandbox`, runs a command with POSTROOM_URL and POSTROOM_ADMIN_USER, POSTROOM_ADMIN_PASSWORD,
# POSTROOM_AGENT_USER, POSTROOM_AGENT_PASSWORD set, stops the sandbox, and exits as the command did.
#
#   tools/with-sandbox.sh COMMAND…
#
# POSTROOM_BIN names the binary (target/debug/postroom), POSTROOM_SANDBOX_LOG keeps its log.
set -euo pipefail

[ $# -gt 0 ] || { echo 'usage: tools/with-sandbox.sh COMMAND…' >&2; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
binary=${POSTROOM_BIN:-${CARGO_TARGET_DIR:-$root/target}/debug/postroom}
[ -x "$binary" ] || { echo "with-sandbox: no $binary (cargo build first)" >&2; exit 1; }

scratch=$(mktemp -d)
log=${POSTROOM_SANDBOX_LOG:-$scratch/log}
sandbox=
cleanup() {
    local status=$?
    trap - EXIT
    if [ -n "$sandbox" ] && kill -TERM "$sandbox" 2>/dev/null; then
        for _ in $(seq 150); do
            kill -0 "$sandbox" 2>/dev/null || break
            sleep 0.1
        done
        if kill -0 "$sandbox" 2>/dev/null; then
            echo 'with-sandbox: the sandbox did not stop within 15 s' >&2
            kill -KILL "$sandbox"
            [ $status -ne 0 ] || status=1
        fi
    fi
    if [ $status -ne 0 ] && [ -s "$log" ]; then
        echo 'with-sandbox: the end of the sandbox log:' >&2
        tail -n 40 "$log" >&2
    fi
    rm -rf "$scratch"
    exit $status
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

"$binary" sandbox --listen 127.0.0.1:0 --json </dev/null >"$scratch/stdout" 2>"$log" &
sandbox=$!

# The one line comes when the sandbox is ready.
for _ in $(seq 300); do
    [ -s "$scratch/stdout" ] && [ "$(wc -l <"$scratch/stdout")" -ge 1 ] && break
    kill -0 "$sandbox" 2>/dev/null || { echo 'with-sandbox: the sandbox ended while starting' >&2; exit 1; }
    sleep 0.1
done
exports=$(python3 - "$scratch/stdout" <<'PYTHON'
import json, shlex, sys
with open(sys.argv[1], encoding="utf-8") as source:
    line = source.readline()
try:
    said = json.loads(line)
    agent = said["agents"][0]
    values = {
        "POSTROOM_URL": said["url"].rstrip("/"),
        "POSTROOM_ADMIN_USER": said["admin"]["username"],
        "POSTROOM_ADMIN_PASSWORD": said["admin"]["password"],
        "POSTROOM_AGENT_USER": agent["username"],
        "POSTROOM_AGENT_PASSWORD": agent["password"],
    }
except (ValueError, KeyError, IndexError, TypeError) as error:
    sys.exit(f"with-sandbox: no usable line from the sandbox within 30 s ({error!r}): {line!r}")
print("\n".join(f"export {name}={shlex.quote(value)}" for name, value in values.items()))
PYTHON
)
eval "$exports"
status=0
"$@" || status=$?
kill -0 "$sandbox" 2>/dev/null || { echo 'with-sandbox: the sandbox ended by itself' >&2; exit 1; }
exit $status
