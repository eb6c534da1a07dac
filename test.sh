#!/usr/bin/env bash
# Installs what the tests need beside Rust, and runs them all.
#
#   ./test.sh                 all tests
#   ./test.sh help            this list
#   ./test.sh kills 1000      the crash tests alone, with 1,000 kills
#   ./test.sh faults 3000     the tests with real servers, a failing proxy and kills, with 3,000 items
#   ./test.sh fuzz 600        every fuzz target for 600 seconds; target names after it select some
#   ./test.sh gallery         the tests of the gallery's pages, in Chromium
#   ./test.sh adapters        the adapters for Lightning, accelerate and others, with the real libraries (8 GB);
#                             names of test classes after it select some
#   ./test.sh fleet 100       the catalogue with 100 kills of its committers, in a directory and in SeaweedFS, and
#                             the backfill with Ray, whose workers and drivers are killed
#   ./test.sh soak 1800       the soak test for 1,800 seconds, with a plot in target/soak
#
# These measure, and print each figure beside its goal:
#
#   ./test.sh gentle          the daemon's cost for the machine: idle CPU, page cache, step time, reads, scrubbing
#   ./test.sh load            the daemon under load: latency, throughput, a million files, index growth
#   ./test.sh hostile         the cost of one user's hostile files for the daemon and for another user's run
#   ./test.sh growth          the cost of an item and a command by the size of the store (docs/growth.svg)
#   ./test.sh backlog         the cost of a million items that are pending for a target
#   ./test.sh targets         the cost of delivery, compared with each target's own client
#   ./test.sh gallery measure the gallery's speed and size, with a table for docs/gallery.md
#   ./test.sh adapters blocked  the time of a call of TensorBoard's writers, with and without the adapter
#   ./test.sh develop         the cost of a picture in Python, compared with Pillow, OpenCV and others
#   ./test.sh fleet measure   the cost of the catalogue of a fleet, with a simulation of 1,000 boxes; look: how long it
#                             takes to look at boxes and runs with --from; backfill: an archive, with xargs and Ray
#   ./test.sh wandb loop      the speed of an unchanged training that logs pictures with wandb; --quick: in a minute;
#                             --torch: with tensors of PyTorch (8 GB)
#   ./test.sh wandb blocked   how long a call of wandb blocks the training, with safelight.wandb and without
#   ./test.sh peers           the cost of a picture, compared with wandb.Image and others; --quick: in a minute
#   ./test.sh peers where     where the CPU time of a picture goes, by perf
#   ./test.sh peers blocked   how long a call of the Python module blocks the training; --calls 40: in a minute
set -euo pipefail
cd "$(dirname "$0")"

if [ "${1:-}" = help ]; then
    sed -n '/^#   /s/^#   //p' "$0"
    exit
fi

if [ "${1:-}" = kills ]; then
    SAFELIGHT_KILLS="${2:-1000}" cargo test --locked --test it crash:: -- --nocapture
    exit
fi

# The fuzz targets need a nightly compiler. fuzz/corpus keeps the inputs that a target found, fuzz/artifacts those
# on which it failed.
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

# Safelight may be installed on this machine. Its configuration is hidden from the tests.
if [ -e /etc/safelight/safelight.toml ] && [ "$(id -u)" = 0 ]; then
    exec unshare --mount bash -ec 'mount -t tmpfs tmpfs /etc/safelight; exec "$@"' hidden "./test.sh" "$@"
fi

# Some tests boot a real systemd in a container, trace system calls or shift the clock. Without its tool a test
# is skipped; in CI it fails.
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    missing=()
    for package in systemd-container dbus libpam-systemd strace libfaketime chromium debhelper xterm xvfb; do
        dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
    done
    install() {
        DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "${missing[@]}" >/dev/null
    }
    [ ${#missing[@]} -eq 0 ] || install || { apt-get update -qq && install; } ||
        echo "cannot install ${missing[*]}: the tests that need them are skipped" >&2
fi

# Says that tests are left out. In CI that is a failure.
left_out() {
    echo "skipped: $1" >&2
    [ -z "${CI:-}" ]
}

# Makes a Python environment with the real NumPy, Pillow, OpenCV and one release of wandb, if it is missing.
python_with() {
    local python="target/python/wandb-$1/bin/python"
    if ! "$python" -c 'import cv2, numpy, PIL, prometheus_client, tensorboardX, wandb' 2>/dev/null; then
        python3 -m venv "target/python/wandb-$1"
        "$python" -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt "wandb==$1"
    fi
}

# Makes a Python environment with the packages of tests/requirements-$1.txt, if it is missing or the file has
# changed.
python_of() {
    local wanted="tests/requirements-$1.txt" place="target/python/$1"
    if ! cmp -s "$wanted" "$place/installed.txt"; then
        python3 -m venv "$place"
        "$place/bin/python" -m pip install --quiet --disable-pip-version-check -r "$wanted"
        cp "$wanted" "$place/installed.txt"
    fi
}

# Checks the gallery's pages: types, style, pure modules, and then the pages themselves in Chromium.
gallery_pages() {
    command -v npm >/dev/null || { left_out "npm is not installed: the gallery's pages"; return; }
    npm ci --ignore-scripts --no-audit --no-fund --silent --prefix web
    npm run --silent --prefix web check
    npm test --silent --prefix web
    [ -x "${SAFELIGHT_CHROMIUM:=/usr/bin/chromium}" ] || {
        left_out "Chromium is not installed: the gallery's pages in a browser"
        return
    }
    npm ci --ignore-scripts --no-audit --no-fund --silent --prefix tests/gallery
    python_with 0.28.2
    export SAFELIGHT_CHROMIUM SAFELIGHT_PYTHON="$PWD/target/python/wandb-0.28.2/bin/python"
}

if [ "${1:-}" = gallery ] && [ "${2:-}" = measure ]; then
    gallery_pages
    cargo build --locked --release --bin safelight
    export SAFELIGHT_PROGRAM="$PWD/target/release/safelight"
    exec node tests/gallery/measure.mjs "${@:3}"
fi

if [ "${1:-}" = gallery ]; then
    gallery_pages
    cargo build --locked --bin safelight
    exec node --test "tests/gallery/${2:-*}.test.mjs"
fi

if [ "${1:-}" = growth ]; then
    python_with 0.28.2
    python="target/python/wandb-0.28.2/bin/python"
    "$python" -c 'import matplotlib' 2>/dev/null ||
        "$python" -m pip install --quiet --disable-pip-version-check matplotlib==3.11.2
    cargo build --locked --release --bin safelight
    exec "$python" tests/measure/growth.py --plot docs/growth.svg "${@:2}"
fi

# Machines are noisy, so these fail only on figures that noise can't explain.
if [ "${1:-}" = gentle ] || [ "${1:-}" = load ] || [ "${1:-}" = backlog ] ||
    [ "${1:-}" = hostile ]; then
    python_with 0.28.2
    [ "$1" != gentle ] || gallery_pages
    cargo build --locked --release --bin safelight
    if [ "$1" = load ] && { [ -z "${2:-}" ] || [ "$2" = churn ]; }; then
        SAFELIGHT_CHURN="${SAFELIGHT_CHURN:-10000000}" \
            cargo test --locked --release --lib store::tests::churn -- --nocapture
        [ -z "${2:-}" ] || exit 0
    fi
    exec target/python/wandb-0.28.2/bin/python "tests/measure/$1.py" "${@:2}"
fi

# PyPI has Detectron2 only as copies by others. The classes that the adapter meets are plain Python, so its extension
# is not built.
if [ "${1:-}" = adapters ]; then
    python_of adapters
    python="$PWD/target/python/adapters/bin/python"
    if ! "$python" -c 'import detectron2.utils.events' 2>/dev/null; then
        site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
        copy=$(mktemp -d)
        "$python" -m pip download --quiet --disable-pip-version-check --no-deps --no-build-isolation \
            --dest "$copy" pb1-detectron2==0.6
        tar -C "$site" -xzf "$copy"/*.tar.gz --strip-components=1 pb1-detectron2-0.6/detectron2
        rm -r "$copy"
    fi
    [ "${2:-}" != blocked ] || exec "$python" -B python/tests/adapters/blocked.py "${@:3}"
    if [ -z "${SAFELIGHT_PROGRAM:-}" ]; then
        cargo build --locked --bin safelight
        export SAFELIGHT_PROGRAM="$PWD/target/debug/safelight"
    fi
    cases=("${@:2}")
    # The tests of the module that need torch or JAX. Others fork, which JAX does not survive.
    [ ${#cases[@]} -gt 0 ] || "$python" -B -m unittest discover -s python/tests -k Torch -k Jax -k Donate -k Docs
    [ ${#cases[@]} -gt 0 ] || cases=(TensorboardX Torch Detectron2 Clu PytorchLightning Lightning Accelerate Mmengine)
    for case in "${cases[@]}"; do
        echo "== $case"
        "$python" -B "$(grep -l "^class $case(" python/tests/adapters/*.py)" "$case"
    done
    exit
fi

if [ "${1:-}" = develop ]; then
    python_of native
    python_with 0.31.0
    cargo build --locked --release -p safelight-native
    mkdir -p target/native
    cp target/release/libsafelight_native.so target/native/safelight_native.abi3.so
    export PYTHONPATH="$PWD/target/native"
    target/python/native/bin/python tests/measure/develop.py "${@:2}"
    exec target/python/wandb-0.31.0/bin/python tests/measure/develop.py --only wandb "${@:2}"
fi

if [ "${1:-}" = wandb ] && { [ "${2:-}" = loop ] || [ "${2:-}" = blocked ]; }; then
    case " ${*:3} " in
    *" --torch "*) python_of adapters && place=adapters ;;
    *) python_with 0.31.0 && place=wandb-0.31.0 ;;
    esac
    [ -n "${SAFELIGHT_PROGRAM:-}" ] || cargo build --locked --release --bin safelight
    exec "target/python/$place/bin/python" "tests/measure/wandb_$2.py" "${@:3}"
fi

if [ "${1:-}" = peers ] && [ "${2:-}" = blocked ]; then
    python_with 0.28.2
    exec target/python/wandb-0.28.2/bin/python benches/blocked.py "${@:3}"
fi

if [ "${1:-}" = peers ] && [ "${2:-}" = where ]; then
    python_of peers
    # The released program has no symbols. Its code is the same with them.
    CARGO_TARGET_DIR=target/symbols CARGO_PROFILE_RELEASE_STRIP=none \
        cargo build --locked --release --bin safelight
    export SAFELIGHT_PROGRAM="$PWD/target/symbols/release/safelight"
    exec target/python/peers/bin/python -B benches/where.py "${@:3}"
fi

if [ "${1:-}" = peers ]; then
    python_with 0.31.0
    python_of peers
    python=target/python/peers/bin/python
    cargo build --locked --release --bin safelight
    exec "$python" benches/peers.py --other-python target/python/wandb-0.31.0/bin/python "${@:2}"
fi

# The clients and servers of targets.
if [ "${1:-}" = targets ]; then
    python_with 0.31.0
    for target in tensorboard trackio mlflow seaweedfs boto3; do
        python_of "$target"
    done
    cargo build --locked --release --bin safelight
    exec target/python/wandb-0.31.0/bin/python tests/measure/targets.py "${@:2}"
fi

if [ "${1:-}" = fleet ]; then
    python_of catalog
    python_of seaweedfs
    python="$PWD/target/python/catalog/bin/python"
    export SAFELIGHT_WEED="$PWD/target/python/seaweedfs/bin/weed"
    if [ "${2:-}" = measure ] && [ "${3:-}" = look ]; then
        cargo build --locked --release --bin safelight
        SAFELIGHT_PROGRAM="$PWD/target/release/safelight" exec "$python" -B tests/measure/fleet_look.py "${@:4}"
    fi
    if [ "${2:-}" = measure ] && [ "${3:-}" = backfill ]; then
        python_of ray
        cargo build --locked --release --bin safelight
        export SAFELIGHT_PROGRAM="$PWD/target/release/safelight"
        exec target/python/ray/bin/python -B python/tests/fleet/backfill_ray.py --runs 40 --side 256 "${@:4}"
    fi
    if [ "${2:-}" = measure ]; then
        "$python" -c 'import matplotlib' 2>/dev/null ||
            "$python" -m pip install --quiet --disable-pip-version-check matplotlib==3.11.2
        exec "$python" -B tests/measure/fleet.py --plot docs/images/fleet.svg "${@:3}"
    fi
    "$python" -B python/tests/catalog/kills.py "${2:-100}"
    "$python" -B python/tests/catalog/kills.py "${2:-100}" s3
    python_of ray
    cargo build --locked --bin safelight
    export SAFELIGHT_PROGRAM="$PWD/target/debug/safelight"
    target/python/ray/bin/python -B python/tests/fleet/backfill_ray.py
    exit
fi

# The store lies on its own disk, in a mount namespace of its own, because the test fills that disk.
if [ "${1:-}" = soak ]; then
    seconds="${2:-1800}"
    python_with 0.28.2
    cargo build --locked --release --bin safelight
    cargo test --locked --test it --no-run
    export SAFELIGHT_SOAK="$seconds" SAFELIGHT_PROGRAM="$PWD/target/release/safelight"
    store="$PWD/target/soak/store"
    mkdir -p "$store"
    soak=(cargo test --locked --test it soak:: -- --nocapture)
    apart=(unshare -m)
    [ "$(id -u)" = 0 ] || apart=(unshare -Urm)
    # The disk is in memory, so not for a soak of days.
    if [ "$seconds" -le 7200 ] && "${apart[@]}" mount -t tmpfs none "$store"; then
        "${apart[@]}" bash -c 'mount -t tmpfs -o "size=$1" none "$2" && export SAFELIGHT_SOAK_STORE="$2" &&
            exec "${@:3}"' soak "$((64 + seconds / 5))m" "$store" "${soak[@]}"
    else
        echo "this soak does not fill the store's disk" >&2
        "${soak[@]}"
    fi
    target/python/wandb-0.28.2/bin/python tests/measure/soak_plot.py target/soak/soak.{tsv,png}
    echo "target/soak/soak.png"
    exit
fi

# The peers of the pixel tests: one environment for each wandb release whose pixels are a profile.
pythons=""
for wandb in 0.28.2 0.31.0; do
    python_with "$wandb"
    pythons="$pythons:$PWD/target/python/wandb-$wandb/bin/python"
done

# The servers of targets. Azure's is a Node program: without npm its test is skipped.
for target in tensorboard trackio mlflow seaweedfs catalog wandb-oldest; do
    python_of "$target"
done
export SAFELIGHT_OLDEST_WANDB="$PWD/target/python/wandb-oldest/bin/python"
export SAFELIGHT_TENSORBOARD="$PWD/target/python/tensorboard" SAFELIGHT_TRACKIO="$PWD/target/python/trackio"
export SAFELIGHT_MLFLOW="$PWD/target/python/mlflow/bin/mlflow"
export SAFELIGHT_WEED="$PWD/target/python/seaweedfs/bin/weed"
export SAFELIGHT_CATALOG="$PWD/target/python/catalog/bin/python"
azurite="target/node/azurite/node_modules/.bin/azurite-blob"
if [ ! -x "$azurite" ] && command -v npm >/dev/null; then
    mkdir -p target/node/azurite
    npm install --silent --no-audit --no-fund --prefix target/node/azurite azurite@3.37.0 ||
        echo "cannot install Azurite: its test is skipped" >&2
fi
[ ! -x "$azurite" ] || export SAFELIGHT_AZURITE="$PWD/$azurite"

export SAFELIGHT_PYTHONS="${pythons#:}"
if [ "${1:-}" = faults ]; then
    SAFELIGHT_FAULT_ITEMS="${2:-3000}" cargo test --locked --test it sync_faults:: -- --nocapture
    exit
fi

# The Python extension, under the name by which Python finds it. These are the targets of `cargo test`, so that
# nothing is built twice.
python_of native
cargo build --locked --lib --bins --tests
export SAFELIGHT_NATIVE="$PWD/target/python/native/bin/python"
cp target/debug/libsafelight_native.so \
    "$("$SAFELIGHT_NATIVE" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')/safelight_native.abi3.so"

# The packages of the debug program, to be installed by tests.
if command -v dh >/dev/null; then
    ./release.sh build --dev
    export SAFELIGHT_PACKAGES="$PWD/target/packages/dev"
else
    left_out "debhelper is not installed: the packages"
fi

cargo test --locked
gallery_pages
[ -z "${SAFELIGHT_PYTHON:-}" ] || node --test tests/gallery/*.test.mjs
