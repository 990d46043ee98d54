#!/bin/sh
# Compiles the three hashed requirements files (needs uv). tokenizers names huggingface-hub only for downloads from
# a hub, which this service never does: that package and what it alone brings are left out, so pip runs with --no-deps.
set -eu
cd "$(dirname "$0")/.."
compile() { uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-annotate --no-header "$@"; }
unused=""
for name in huggingface-hub anyio click colorama filelock fsspec h11 hf-xet httpcore2 httpx2 httpx2-jsfetch pyyaml tqdm truststore; do
    unused="$unused --no-emit-package $name"
done
# shellcheck disable=SC2086
compile $unused requirements.in -o requirements.txt
compile requirements-setup.in -o requirements-setup.txt
compile requirements-dev.in -o requirements-dev.txt
