#!/usr/bin/env bash
# Makes a store by the program of each commit that is named, or of those that lie here already:
#
#   tests/golden/stores/make.sh [COMMIT...]
#
# The commits must be there, and Rust, Python 3, tar and xz.
set -euo pipefail
cd "$(dirname "$0")"
commits=("$@")
[ ${#commits[@]} -gt 0 ] || commits=(a06f07c 7c9dc23 e79db57)
folder="$(mktemp -d)"
trap 'git worktree remove --force "$folder/source" 2>/dev/null || true; rm -rf "$folder"' EXIT
for commit in "${commits[@]}"; do
    git worktree add --quiet --force --detach "$folder/source" "$commit"
    CARGO_TARGET_DIR="$folder/target" cargo build --locked --manifest-path "$folder/source/Cargo.toml"
    python3 make.py "$folder/target/debug/safelight" "$commit.tar.xz"
    git worktree remove --force "$folder/source"
done
