#!/usr/bin/env bash
# Runs the Postman collection against $POSTROOM_URL (tools/with-sandbox.sh sets it); a failed assertion fails.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${POSTROOM_URL:?run this through tools/with-sandbox.sh}"
collection=postman/postroom.postman_collection.json
environment=postman/postroom.postman_environment.json
options=()
[ ! -f $environment ] || options+=(--environment $environment)
# The names on the left are the collection's variables.
tools/node_modules/.bin/newman run $collection "${options[@]}" \
    --env-var "base_url=$POSTROOM_URL" \
    --env-var "admin_username=$POSTROOM_ADMIN_USER" \
    --env-var "admin_password=$POSTROOM_ADMIN_PASSWORD" \
    --env-var "agent_username=$POSTROOM_AGENT_USER" \
    --env-var "agent_password=$POSTROOM_AGENT_PASSWORD" \
    --timeout 300000 --timeout-request 15000 --color off --disable-unicode --reporters cli \
    --reporter-cli-no-banner --reporter-cli-no-success-assertions
