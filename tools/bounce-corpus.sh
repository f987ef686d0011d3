#!/usr/bin/env bash
# Puts the bounces that the test `bounce_corpus` reads into a folder, unless they are there already:
#
#   tools/bounce-corpus.sh DIR && POSTROOM_TEST_BOUNCES=DIR cargo test --test it bounce_corpus
#
# They are the test data of the Python package flufl.bounce (Apache-2.0), fetched with pip from its source archive.
set -euo pipefail
wanted='flufl.bounce==6.0.0'
target=${1:?usage: tools/bounce-corpus.sh DIR}
root=$(cd "$(dirname "$0")/.." && pwd)

stamp=$target/.bounce-corpus
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    echo "bounce-corpus: all there in $target"
    exit 0
fi

pip=("$root/.venv/bin/python" -m pip)
[ -x "${pip[0]}" ] || pip=(python3 -m pip)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"${pip[@]}" download --quiet --disable-pip-version-check --no-input --no-deps --no-binary :all: "$wanted" \
    -d "$scratch" </dev/null
mkdir "$scratch/unpacked"
tar -xzf "$scratch"/flufl*bounce-*.tar.gz -C "$scratch/unpacked" --strip-components=1

mkdir -p "$target"
cp "$scratch"/unpacked/tests/data/*.txt "$target/"
printf '%s\n' "$wanted" >"$stamp"
echo "bounce-corpus: $(find "$target" -maxdepth 1 -name '*.txt' | wc -l) messages in $target"
