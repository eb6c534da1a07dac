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

# The live peer of the pixel tests: the real wandb, NumPy and Pillow, in an environment of their own.
python="target/python/bin/python"
if ! "$python" -c 'import numpy, PIL, wandb' 2>/dev/null; then
    python3 -m venv target/python
    "$python" -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
fi
SAFELIGHT_PYTHON="$PWD/$python" cargo test --locked
