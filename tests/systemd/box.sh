#!/usr/bin/env bash
# Boots a real systemd in a container and runs one part of guest.sh in it.
#
#   unshare --mount --propagation private box.sh LAYERS OUT REPOSITORY PROGRAM PART
#
# The container sees this machine's files. Its writes go to a layer in memory, which disappears with the
# mount namespace. OUT is shared with the container. Afterwards it holds the output of guest.sh (`said`),
# the journal (`journal`), the console (`console`), and a list of the files that the daemon's user and
# group owned at the end (`owned`).
set -euo pipefail
layers="$1" out="$2" repository="$3" program="$4" part="$5"

mount -t tmpfs -o size=1G,mode=755 tmpfs "$layers"
mkdir "$layers/upper" "$layers/work" "$layers/root"
root="$layers/root"
mount -t overlay -o "lowerdir=/,upperdir=$layers/upper,workdir=$layers/work" overlay "$root"

echo uninitialized >"$root/etc/machine-id"
# Images for build containers forbid the start of services.
rm -f "$root/usr/sbin/policy-rc.d"
# Safelight may be installed on this machine.
! chroot "$root" dpkg --status safelight >"$out/console" 2>&1 || chroot "$root" dpkg --purge safelight
rm -rf "$root"/etc/systemd/system/safelight* "$root"/usr/lib/systemd/system/safelight* \
    "$root"/etc/safelight "$root"/var/lib/safelight*
mkdir -p "$root/data"
mount -t tmpfs tmpfs "$root/data"
cat >"$root/etc/systemd/system/test.target" <<'END'
[Unit]
Requires=basic.target
After=basic.target
Wants=test.service
END
cat >"$root/etc/systemd/system/test.service" <<END
[Unit]
After=basic.target dbus.socket
Wants=dbus.socket
[Service]
Type=oneshot
ExecStart=/bin/bash -c 'exec bash /opt/repository/tests/systemd/guest.sh $part >/opt/out/said 2>&1'
ExecStopPost=/bin/systemctl --no-block start poweroff.target
END

ended=0
timeout --kill-after=10 300 systemd-nspawn --quiet --directory="$root" --machine=safelight-test \
    --register=no --keep-unit --private-network --link-journal=no --bind="$out:/opt/out" \
    --bind-ro="$repository:/opt/repository" --bind-ro="$program:/opt/safelight" \
    --boot -- --unit=test.target --show-status=no </dev/null >"$out/console" 2>&1 || ended=$?

cd "$layers/upper"
: >"$out/owned"
if id="$(grep -s '^safelight:' etc/passwd | cut -d: -f3,4)"; then
    find . \( -uid "${id%:*}" -o -gid "${id#*:}" \) -printf '/%P\n' >"$out/owned"
fi
exit "$ended"
