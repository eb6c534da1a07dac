#!/bin/sh
# Builds Safelight from this checkout and makes pictures of the dumps of a real training, with all output in target/demo.
# It needs Rust 1.95 or later; with npm, the gallery has its pages.
set -eu
cd "$(dirname "$0")"

if ! command -v cargo >/dev/null; then
    echo "Rust is missing. Install it as https://rustup.rs says, then run this again:" >&2
    echo "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh" >&2
    exit 1
fi
command -v npm >/dev/null || echo "npm is missing: the gallery is built without its pages" >&2

program="${SAFELIGHT_PROGRAM:-target/release/safelight}"
[ -n "${SAFELIGHT_PROGRAM:-}" ] || cargo build --release --locked --bin safelight

"$program" ingest examples/digits/run --store target/demo || [ $? = 3 ]
echo
"$program" show digits val/confidence last 0 --store target/demo
# A terminal shows the picture itself.
[ ! -t 1 ] || "$program" show digits val/confidence last 0 --picture --store target/demo
