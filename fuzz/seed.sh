#!/usr/bin/env bash
# Writes the first seeds of each fuzz target: the golden dumps, and the lines of the example's log.
set -euo pipefail
cd "$(dirname "$0")/.."

# seed TARGET FILE...: copies files to the target's corpus, named after their paths.
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
# This target reads a picture and settings from any bytes.
seed png fuzz/pictures/* tests/golden/inputs/*big*.npy
# This target reads steps from any bytes.
seed tree tests/golden/{dumps,inputs}/**/*.{npz,pt} fuzz/pictures/*
for target in line sidecar_metadata; do
    mkdir -p "fuzz/corpus/$target"
    cat examples/digits/run/*.media.jsonl | split --lines 1 --suffix-length 4 - "fuzz/corpus/$target/digits-"
done
printf '%s\n' key val/pred step 7 caption 'a cat' range '[-1, NaN]' format CHW grid '{"nrow": 2}' \
    boxes '{"b": {"box_data": []}}' >fuzz/corpus/sidecar_metadata/metadata
# The first byte chooses the address.
mkdir -p fuzz/corpus/request
for byte in {0..21}; do
    printf "\\x$(printf %02x "$byte")run=digits&key=val/confidence&step=300&index=0" >"fuzz/corpus/request/digits-$byte"
done
# The list of runs.
printf '\x03limit=1&order=name' >fuzz/corpus/request/runs-first
printf '\x03q=digits&order=-changed&limit=1&cursor=' >fuzz/corpus/request/runs-found
