#!/usr/bin/env bash
# Makes the Debian package of a built program, by debhelper.
#
#   packaging/deb.sh PROGRAM OUT [REVISION [ARCHITECTURE]]
#
# Writes OUT/safelight_VERSION-REVISION_ARCHITECTURE.deb. The revision is 1 unless given. The program must be one for the
# architecture, which is this machine's unless given. With SOURCE_DATE_EPOCH the same input gives the same bytes.
set -euo pipefail
program="$(realpath "$1")" out="$(realpath "$2")" revision="${3:-1}"
architecture="${4:-$(dpkg --print-architecture)}"
cd "$(dirname "$0")/.."
command -v dh >/dev/null || { echo "debhelper is missing: apt-get install debhelper" >&2; exit 1; }
version="$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)"

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
mkdir "$work/safelight"
cp -r packaging/debian CHANGELOG.md "$work/safelight"
packaging/stage.sh "$program" "$work/safelight/stage"
date="$(date -u -R ${SOURCE_DATE_EPOCH:+-d "@$SOURCE_DATE_EPOCH"})"
maintainer="$(sed -n 's/^Maintainer: //p' packaging/debian/control)"
cat >"$work/safelight/debian/changelog" <<END
safelight ($version-$revision) unstable; urgency=medium

  * Release $version. See changelog.gz.

 -- $maintainer  $date
END
cd "$work/safelight"
dpkg-architecture "-a$architecture" -c debian/rules binary >"$work/said" 2>&1 || { cat "$work/said" >&2; exit 1; }
mv "$work"/*.deb "$out"
