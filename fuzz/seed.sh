#!/usr/bin/env bash
# Gives each fuzz target seeds to begin with: the golden dumps, and the lines of the example's log.
set -euo pipefail
cd "$(dirname "$0")/.."

# Copies files to a target's corpus, named by their paths.
seed() {
    local target="$1" file
    shift
    mkdir -p "fuzz/corpus/$target"
    for file; do
        cp "$file" "fuzz/corpus/$target/${file//\//-}"
    done
}

shopt -s globstar nullglob
seed npy tests/golden/{dumps,inputs}/**/*.npy
seed npz tests/golden/dumps/**/*.npz
seed safetensors tests/golden/dumps/**/*.safetensors
seed torch tests/golden/dumps/**/*.{pt,pth}
seed picture fuzz/pictures/*
# Any bytes are a picture and settings.
seed png fuzz/pictures/* tests/golden/inputs/*big*.npy
for target in line sidecar_metadata; do
    mkdir -p "fuzz/corpus/$target"
    cat examples/digits/run/*.media.jsonl | split --lines 1 --suffix-length 4 - "fuzz/corpus/$target/digits-"
done
printf '%s\n' key val/pred step 7 caption 'a cat' range '[-1, NaN]' format CHW grid '{"nrow": 2}' \
    boxes '{"b": {"box_data": []}}' >fuzz/corpus/sidecar_metadata/metadata
