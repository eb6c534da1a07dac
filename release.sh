#!/usr/bin/env bash
# Makes a release: the packages, their trial, and their upload.
#
#   ./release.sh check          compares the versions everywhere, the changelog, and the dependencies' licences
#   ./release.sh versions       only the versions and the changelog
#   ./release.sh build          makes all packages in target/packages/release
#   ./release.sh build --dev    makes the wheels, the Debian package and the tarball of the debug program, for tests
#   ./release.sh try            installs what `build` made in empty places: the wheels of the program and of the module,
#                               the Debian package and the tarball, of which each makes a picture. Compiles the crates
#   ./release.sh publish        uploads what `build` made of this commit and `try` tried; needs a clean tree, a tag, and
#                               the tokens of the registries
#   ./release.sh help           this list
#
# `build` needs Rust, npm, Python with venv and pip, and for the Debian package debhelper. It links for glibc 2.17 with
# zig. SAFELIGHT_TARGET=aarch64-unknown-linux-gnu builds for that architecture (first: rustup target add), which nobody
# has tried. The same commit gives the same bytes: times are the commit's, paths are left out.
set -euo pipefail
cd "$(dirname "$0")"
root="$PWD"

fail() {
    echo "release.sh: $1" >&2
    exit 1
}

version="$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)"
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}"

# Installs the Python packages of packaging/NAME.txt for each name, if a file has changed.
tools=target/python/packaging
install_tools() {
    for name in "$@"; do
        cmp -s "packaging/$name.txt" "$tools/$name.txt" && continue
        [ -x $tools/bin/python ] || python3 -m venv $tools
        $tools/bin/python -m pip install --quiet --disable-pip-version-check -r "packaging/$name.txt"
        cp "packaging/$name.txt" "$tools/$name.txt"
    done
}

# same WHERE VERSION: checks a version that stands somewhere.
same() { [ "$2" = "$version" ] || fail "$1 has version ${2:-(none)}, want $version as in Cargo.toml"; }

check_versions() {
    local name found
    for name in safelight-formats safelight-image safelight-png; do
        same "Cargo.toml, $name," "$(sed -n "s/^$name = .*version = \"\([^\"]*\)\".*/\1/p" Cargo.toml)"
    done
    same python/pyproject.toml "$(sed -n 's/^version = "\(.*\)"/\1/p' python/pyproject.toml)"
    same python/safelight/__init__.py "$(sed -n 's/^__version__ = "\(.*\)"/\1/p' python/safelight/__init__.py)"
    for name in pyproject.toml python/pyproject.toml; do
        same "$name, extra native," "$(sed -n 's/^native = \["safelight-native==\(.*\)"\]/\1/p' $name)"
    done
    for found in $(sed -n '/^name = "safelight-fuzz"$/d;/^name = "safelight\(-[a-z]*\)\?"$/{n;s/^version = "\(.*\)"/\1/p}' Cargo.lock fuzz/Cargo.lock); do
        same Cargo.lock "$found"
    done
    grep -q -e "^## Unreleased$" -e "^## $version (" CHANGELOG.md ||
        fail "CHANGELOG.md has neither \"## Unreleased\" nor \"## $version (date)\""
}

check() {
    check_versions
    cargo metadata --locked --format-version 1 >/dev/null
    cargo deny --version >/dev/null 2>&1 || cargo install cargo-deny --locked
    cargo deny --locked check licenses bans sources
}

# The gallery's pages, which the wheels, the source packages and the crate hold.
build_pages() {
    command -v npm >/dev/null || fail "npm is missing: the packages need the gallery's pages"
    npm ci --ignore-scripts --no-audit --no-fund --silent --prefix web
    npm run --silent --prefix web build >/dev/null
}

# The module alone, for machines without a program. pip takes the wheel with the program where there is one.
pack_module() {
    "$tools/bin/python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$1" ./python
    chmod 644 "$1"/*.whl
}

maturin() { "$root/$tools/bin/maturin" "$@"; }

build_dev() {
    local out=target/packages/dev program="$root/target/debug/safelight"
    [ -x "$program" ] || fail "there is no target/debug/safelight: run cargo test --locked --no-run first"
    rm -rf $out && mkdir -p $out
    install_tools requirements
    CARGO="$root/packaging/built-cargo" SAFELIGHT_BUILT="$program" \
        maturin build --quiet --profile dev --compatibility linux --out $out
    pack_module $out
    for revision in 1 2; do
        SAFELIGHT_DPKG_DEB="-Zgzip -z1" packaging/deb.sh "$program" $out $revision
    done
    pack_tarball "$program" $out "safelight-$version-$(uname -m)-linux" -0
    ls -s --block-size=1K $out
}

build() {
    local out="$root/target/packages/release" target="${SAFELIGHT_TARGET:-x86_64-unknown-linux-gnu}"
    local program="$root/target/packages/cargo/$target/release/safelight"
    check_versions
    install_tools requirements requirements-release
    build_pages
    rm -rf "$out" && mkdir -p "$out"
    # A folder of its own: the files of a source package are old, and cargo would take what was built before.
    export CARGO_TARGET_DIR="$root/target/packages/cargo" SAFELIGHT_WEB=require
    export PATH="$root/$tools/bin:$PATH"
    export RUSTFLAGS="--remap-path-prefix=$root=/safelight --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
    local flags=(--release --zig --target "$target" --compatibility manylinux2014 --out "$out")
    maturin build "${flags[@]}"
    [ ! -f crates/native/pyproject.toml ] || (cd crates/native && maturin build "${flags[@]}")
    maturin sdist --out "$out"
    pack_module "$out"

    local machine="${target%%-*}" architecture=amd64
    [ "$machine" = x86_64 ] || architecture=arm64
    if command -v dh >/dev/null; then
        SAFELIGHT_DPKG_DEB=-Zxz packaging/deb.sh "$program" "$out" 1 "$architecture"
    else
        echo "release.sh: debhelper is missing: no Debian package" >&2
    fi
    pack_tarball "$program" "$out" "safelight-$version-$machine-linux" -9e
    cargo package --locked --quiet --no-verify --allow-dirty \
        -p safelight -p safelight-formats -p safelight-image -p safelight-png
    cp "$CARGO_TARGET_DIR"/package/safelight*-"$version".crate "$out"
    $tools/bin/python - "$out" <<'END'
import glob, sys, zipfile
# The wheel holds the bill of materials that maturin made of Cargo.lock.
for wheel in glob.glob(f"{sys.argv[1]}/safelight-*manylinux*.whl"):
    with zipfile.ZipFile(wheel) as files:
        (name,) = [name for name in files.namelist() if name.endswith(".cyclonedx.json")]
        with open(f"{sys.argv[1]}/{name.rsplit('/', 1)[1]}", "wb") as out:
            out.write(files.read(name))
END
    commit >"$out/COMMIT"
    (cd "$out" && sha256sum -- * >SHA256SUMS)
    (cd "$out" && ls -l --block-size=1 && cat SHA256SUMS)
}

# The commit of the tree, and whether the tree differs from it.
commit() {
    git rev-parse HEAD
    [ -z "$(git status --porcelain)" ] || echo "with changes that are not committed"
}

# pack_tarball PROGRAM OUT NAME LEVEL: what lies below /usr in the Debian package, for /usr/local, in a folder NAME.
pack_tarball() {
    local work
    work="$(mktemp -d)"
    packaging/stage.sh "$1" "$work/stage"
    mv "$work/stage/usr" "$work/$3"
    mv "$work/stage/lib/systemd/system" "$work/$3/lib/systemd/system"
    mv "$work/stage/etc/safelight/safelight.toml" "$work/$3/share/doc/safelight/examples/default.toml"
    cp LICENSE-* CHANGELOG.md "$work/$3/share/doc/safelight"
    mkdir "$work/$3/share/zsh/site-functions"
    mv "$work/$3"/share/zsh/{vendor-completions,site-functions}/_safelight
    rmdir "$work/$3/share/zsh/vendor-completions"
    sed -i -E 's#/usr/(bin|share)/#/usr/local/\1/#g' "$work/$3"/lib/systemd/{system,user}/*
    tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$work" -c "$3" |
        xz "$4" >"$2/$3.tar.xz"
    rm -r "$work"
}

try() {
    local out="$root/target/packages/release"
    [ -f "$out/SHA256SUMS" ] || fail "there are no packages: run ./release.sh build first"
    (cd "$out" && sha256sum --quiet --check SHA256SUMS)
    # The wheel in an empty environment, the Debian package in a booted container, the tarball in an empty folder.
    SAFELIGHT_PACKAGES="$out" CI=1 cargo test --locked --test it packages:: -- --nocapture
    # The crate, as somebody without Node builds it.
    local without_npm
    without_npm="$(mktemp -d)"
    ln -s "$(command -v false)" "$without_npm/npm"
    PATH="$without_npm:$PATH" SAFELIGHT_WEB=require CARGO_TARGET_DIR="$root/target/packages/crate" \
        cargo package --locked --allow-dirty -p safelight -p safelight-formats -p safelight-image -p safelight-png
    rm -r "$without_npm"
    sha256sum <"$out/SHA256SUMS" >"$out/.tried"
}

# Checks that the packages are those of this commit, and that `try` has tried them.
check_packages() {
    local out="$root/target/packages/release"
    [ -f "$out/SHA256SUMS" ] || fail "there are no packages: run ./release.sh build and try first"
    (cd "$out" && sha256sum --quiet --check SHA256SUMS) || fail "the packages have changed since they were built"
    [ "$(cat "$out/COMMIT")" = "$(commit)" ] ||
        fail "the packages are of another commit: run ./release.sh build and try first"
    [ "$(cat "$out/.tried" 2>/dev/null)" = "$(sha256sum <"$out/SHA256SUMS")" ] ||
        fail "the packages were not tried: run ./release.sh try first"
}

publish() {
    local out="$root/target/packages/release"
    grep -q "^## $version (" CHANGELOG.md || fail "CHANGELOG.md has no section \"## $version (date)\""
    [ -z "$(git status --porcelain)" ] || fail "the tree has changes that are not committed"
    [ "$(git describe --tags --exact-match 2>/dev/null)" = "v$version" ] || fail "HEAD has no tag v$version"
    check_packages
    check
    install_tools requirements requirements-release
    SAFELIGHT_WEB=require cargo publish --locked --allow-dirty \
        -p safelight-png -p safelight-image -p safelight-formats -p safelight
    "$tools/bin/twine" upload "$out"/*.whl "$out"/*.tar.gz
    echo "The rest is for the release's page: the .deb, the .tar.xz, the SBOM and SHA256SUMS in $out"
}

case "${1:-help}${2:+ $2}" in
    check) check ;;
    versions) check_versions ;;
    build) build ;;
    "build --dev") build_dev ;;
    try) try ;;
    publish) publish ;;
    help) sed -n '/^#   /s/^#   //p' "$0" ;;
    *) fail "unknown command: $*; see ./release.sh help" ;;
esac
