#!/usr/bin/env bash
# Installs what the tests need beside Rust, and runs them all.
#
#   ./test.sh              all tests
#   ./test.sh kills 1000   the crash test alone, with so many kills
#   ./test.sh fuzz 600     every fuzz target for so many seconds; or only those that are named after
set -euo pipefail
cd "$(dirname "$0")"

if [ "${1:-}" = kills ]; then
    SAFELIGHT_KILLS="${2:-1000}" cargo test --locked --test it crash:: -- --nocapture
    exit
fi

# The fuzz targets need a nightly compiler. What a target learnt stays in fuzz/corpus, the input that
# it failed on in fuzz/artifacts.
if [ "${1:-}" = fuzz ]; then
    seconds="${2:-60}"
    rustup run nightly cargo --version >/dev/null || rustup toolchain install nightly --profile minimal
    cargo fuzz --version >/dev/null || cargo install cargo-fuzz --locked
    fuzz/seed.sh
    targets=("${@:3}")
    [ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo fuzz list)
    for target in "${targets[@]}"; do
        echo "== $target"
        flags=("-max_total_time=$seconds" -rss_limit_mb=2048 -timeout=20
            -print_final_stats=1)
        words="fuzz/dictionaries/$target"
        [ ! -f "$words" ] || flags+=("-dict=$words")
        cargo +nightly fuzz run "$target" -- "${flags[@]}"
    done
    exit
fi

# Some tests boot a real systemd in a container, some trace system calls or shift the clock. Those that
# lack their tool say so and are left out.
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    missing=()
    for package in systemd-container dbus libpam-systemd strace libfaketime; do
        dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
    done
    install() {
        DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "${missing[@]}" >/dev/null
    }
    [ ${#missing[@]} -eq 0 ] || install || { apt-get update -qq && install; } ||
        echo "cannot install ${missing[*]}: the tests that need them are left out" >&2
fi

# The live peers of the pixel tests: the real NumPy, Pillow and wandb, one environment for each
# release whose pixels are a profile of ours.
pythons=""
for wandb in 0.28.2 0.31.0; do
    python="target/python/wandb-$wandb/bin/python"
    if ! "$python" -c 'import numpy, PIL, prometheus_client, wandb' 2>/dev/null; then
        python3 -m venv "target/python/wandb-$wandb"
        "$python" -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt "wandb==$wandb"
    fi
    pythons="$pythons:$PWD/$python"
done
SAFELIGHT_PYTHONS="${pythons#:}" cargo test --locked
