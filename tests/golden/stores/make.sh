#!/usr/bin/env bash
# Makes a store with the program of each named commit. By default, makes all stores of this folder again:
#
#   tests/golden/stores/make.sh [COMMIT...]
#
# Needs the commits, and Rust, Python 3, tar and xz.
set -euo pipefail
cd "$(dirname "$0")"
commits=("$@")
[ ${#commits[@]} -gt 0 ] || commits=(a06f07c 7c9dc23 e79db57 cce2186 16f6f26)
folder="$(mktemp -d)"
trap 'git worktree remove --force "$folder/source" 2>/dev/null || true; rm -rf "$folder"' EXIT
for commit in "${commits[@]}"; do
    git worktree add --quiet --force --detach "$folder/source" "$commit"
    CARGO_TARGET_DIR="$folder/target" cargo build --locked --manifest-path "$folder/source/Cargo.toml"
    # The first versions could not read annotations.
    case "$commit" in
        a06f07c | 7c9dc23 | e79db57) also=() ;;
        *) also=(annotated) ;;
    esac
    python3 make.py "$folder/target/debug/safelight" "$commit.tar.xz" "${also[@]}"
    git worktree remove --force "$folder/source"
done
