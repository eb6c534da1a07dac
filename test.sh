#!/usr/bin/env bash
# Installs what the tests need beside Rust, and runs them all.
#
#   ./test.sh              all tests
#   ./test.sh kills 1000   the crash test alone, with so many kills
set -euo pipefail
cd "$(dirname "$0")"

if [ "${1:-}" = kills ]; then
    SAFELIGHT_KILLS="${2:-1000}" cargo test --locked --test it crash:: -- --nocapture
    exit
fi

# The live peers of the pixel tests: the real NumPy, Pillow and wandb, one environment for each
# release whose pixels are a profile of ours.
pythons=""
for wandb in 0.28.2 0.31.0; do
    python="target/python/wandb-$wandb/bin/python"
    if ! "$python" -c 'import numpy, PIL, wandb' 2>/dev/null; then
        python3 -m venv "target/python/wandb-$wandb"
        "$python" -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt "wandb==$wandb"
    fi
    pythons="$pythons:$PWD/$python"
done
SAFELIGHT_PYTHONS="${pythons#:}" cargo test --locked
