#!/usr/bin/env bash
# Lays out everything that the Debian package and the tarball install, as it lies below /.
#
#   packaging/stage.sh PROGRAM DIRECTORY
#
# PROGRAM is the built program. DIRECTORY is created.
set -euo pipefail
program="$1" root="$2"
cd "$(dirname "$0")/.."

# put MODE TARGET FILE...: copies files into a folder below the root, or one file to a path below it.
put() {
    local mode="$1" to="$root/$2"
    shift 2
    if [ "${to: -1}" = / ]; then
        install -D -m "$mode" -t "$to" "$@"
    else
        install -D -m "$mode" "$1" "$to"
    fi
}

share=packaging/wheel/data/share
put 755 usr/bin/safelight "$program"
put 644 usr/share/man/man1/ $share/man/man1/*
put 644 usr/share/bash-completion/completions/ $share/bash-completion/completions/*
# Debian's zsh looks into vendor-completions for packages, and other zsh into site-functions.
put 644 usr/share/zsh/vendor-completions/ $share/zsh/site-functions/*
put 644 usr/share/fish/vendor_completions.d/ $share/fish/vendor_completions.d/*

put 644 etc/safelight/safelight.toml config/default.toml
put 644 lib/systemd/system/ systemd/*.service systemd/*.socket systemd/*.timer systemd/*.slice
put 644 usr/lib/sysusers.d/safelight.conf systemd/safelight.sysusers
put 644 usr/lib/tmpfiles.d/safelight.conf systemd/safelight.tmpfiles
# The unit for users without root names a program in their home, and says how to install it.
user="$root/usr/lib/systemd/user/safelight.service"
put 644 usr/lib/systemd/user/safelight.service /dev/stdin <<END
# Safelight without root. It runs as you and reads the files that you can read. To start it, write
# ~/.config/safelight/safelight.toml, such as /usr/share/doc/safelight/examples/default-user.toml; then:
#   systemctl --user enable --now safelight
# \`loginctl enable-linger\` keeps it running while you are logged out.
$(sed -n -e 's|%h/.local/bin/safelight|/usr/bin/safelight|' -e '/^\[Unit\]/,$p' systemd/user/safelight.service)
END
grep -q '^ExecStart=/usr/bin/safelight ' "$user"

doc=usr/share/doc/safelight
put 644 $doc/ README.md
put 644 $doc/docs/ docs/*.md
put 644 $doc/examples/ config/safelight.toml config/default-user.toml
put 644 $doc/examples/systemd/ systemd/*.conf
put 644 $doc/examples/systemd/user/ systemd/user/sandbox.conf
