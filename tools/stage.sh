#!/usr/bin/env bash
# Runs one stage of `make test` or `make check` and says how long it took: tools/stage.sh NAME COMMAND…
set -euo pipefail
name=$1
shift
printf '\n── %s\n' "$name"
begun=$(date +%s)
status=0
"$@" </dev/null || status=$?
took=$(($(date +%s) - begun))
if [ $status -eq 0 ]; then
    printf '── %s: passed in %d s\n' "$name" $took
else
    printf '── %s: FAILED in %d s (exit code %d)\n' "$name" $took $status
fi
exit $status
