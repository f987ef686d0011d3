#!/usr/bin/env bash
# Redocly and Spectral on the committed document; anything they call an error or a warning fails.
set -euo pipefail
cd "$(dirname "$0")/.."
document=${1:-openapi/openapi.json}
[ -s "$document" ] || { echo "lint-openapi: no $document (make openapi)" >&2; exit 1; }
bin=tools/node_modules/.bin
export REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true
$bin/redocly lint --config openapi/redocly.yaml --max-problems 50 "$document"
$bin/spectral lint --ruleset openapi/spectral.yaml --fail-severity warn --display-only-failures "$document"
