#!/usr/bin/env bash
# Generated requests against every operation of $POSTROOM_URL's own document, all checks, a fixed seed.
# Fails on any finding, on fewer than $MINIMUM_CASES cases, and after $LIMIT_S seconds.
# The coverage phase gives about 75 cases an operation by itself (every bound, every wrong type, missing and unknown
# members, wrong methods); $EXAMPLES adds random ones.
# Operations that are left out: schemathesis.toml.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${POSTROOM_URL:?run this through tools/with-sandbox.sh}"
MINIMUM_CASES=${MINIMUM_CASES:-2000}
EXAMPLES=${EXAMPLES:-5}
LIMIT_S=${LIMIT_S:-600}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

curl -sS --fail-with-body --max-time 20 -o "$scratch/openapi.json" "$POSTROOM_URL/v1/openapi.json"
python3 - tools/schemathesis.toml "$scratch/openapi.json" <<'PYTHON'
import json, re, sys
named = re.findall(r'^include-operation-id = "(.+)"(\nenabled = false)?', open(sys.argv[1], encoding="utf-8").read(), re.M)
left_out = [name for name, disabled in named if disabled]
document = json.load(open(sys.argv[2], encoding="utf-8"))
known = {op["operationId"] for path in document["paths"].values() for op in path.values() if "operationId" in op}
gone = sorted({name for name, _ in named} - known)
if gone:
    sys.exit(f"schemathesis.toml names operations that do not exist: {', '.join(gone)}")
print(f"schemathesis: {len(known)} operations, left out: {', '.join(left_out)}")
PYTHON

token=$(curl -sS --fail-with-body --max-time 20 "$POSTROOM_URL/v1/auth/token" \
    --data-urlencode grant_type=password \
    --data-urlencode "username=$POSTROOM_ADMIN_USER" \
    --data-urlencode "password=$POSTROOM_ADMIN_PASSWORD" |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])')

# The hooks keep this user from resetting its own password, demoting or deleting itself.
POSTROOM_SELF_ID=$(curl -sS --fail-with-body --max-time 20 -H "Authorization: Bearer $token" "$POSTROOM_URL/v1/auth/me" |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])')
export POSTROOM_SELF_ID

export NO_COLOR=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=tools
status=0
timeout --kill-after=10 "$LIMIT_S" .venv/bin/st --config-file tools/schemathesis.toml run "$POSTROOM_URL/v1/openapi.json" \
    --header "Authorization: Bearer $token" \
    --checks all --mode all --phases examples,coverage,fuzzing --workers 2 \
    --max-examples "$EXAMPLES" --continue-on-failure \
    --request-timeout 15 --suppress-health-check all --no-color \
    --report json --report-json-path "$scratch/report.json" | tee "$scratch/output" || status=$?
[ $status -ne 124 ] || echo "schemathesis: not done after $LIMIT_S s" >&2
[ $status -eq 0 ] || exit $status

cases=$(sed -nE 's/.*[^0-9]([0-9,]+) generated.*/\1/p' "$scratch/output" | tail -n 1 | tr -d ,)
if [ "${cases:-0}" -lt "$MINIMUM_CASES" ]; then
    echo "schemathesis: ${cases:-no} cases generated, wanted $MINIMUM_CASES: raise EXAMPLES" >&2
    exit 1
fi
echo "schemathesis: $cases cases, 0 failures"
