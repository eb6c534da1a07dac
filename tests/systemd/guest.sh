#!/usr/bin/env bash
# Checks the units under a real systemd. Prints a line for each check: `ok NAME`, or `FAIL NAME` with the
# output of the check. Runs as root in the container that box.sh boots.
set -u
out=/opt/out
cd /opt/repository

# check NAME COMMAND...: runs a check and prints its result.
check() {
    local name="$1" said
    said="$(mktemp)"
    if "${@:2}" >"$said" 2>&1; then
        echo "ok $name"
    else
        echo "FAIL $name"
        uniq "$said" | tail -n 40 | sed 's/^/    /'
    fi
    rm "$said"
}

# within SECONDS COMMAND...: retries a command until it succeeds, for at most SECONDS.
within() {
    local end=$((SECONDS + $1))
    until "${@:2}"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.1
    done
}

# refused PATTERN COMMAND...: checks that a command fails, with output that matches PATTERN.
refused() {
    local said
    if said="$("${@:2}" 2>&1)"; then
        echo "it worked: $said"
        return 1
    fi
    echo "$said"
    grep -q -- "$1" <<<"$said"
}

property() { systemctl show --property="$1" --value "${2:-safelight}"; }
main_pid() { property MainPID "${1:-safelight}"; }
is() { [ "$(property "$1" "${3:-safelight}")" = "$2" ] || { systemctl status "${3:-safelight}"; false; }; }

# Runs `safelight` as the daemon's user, who may also open the store while no daemon runs.
ask() { runuser -u safelight -- safelight "$@"; }

# n_items STATE KEY N: checks that the run `live` has N items of this key and state.
n_items() {
    local n
    n="$(ask ls live "$2" --state "$1" --json ${config:+--config "$config"} | wc -l)"
    [ "$n" = "$3" ] || { echo "$n of $2 are $1, want $3"; false; }
}

# dump PATH NUMBER: writes a gray picture of 4 × 4 whose bytes are the digits of NUMBER, then renames it.
dump() {
    mkdir -p "${1%/*}"
    { cat $out/npy-header; printf '%016d' "$2"; } >"${1%/*}/.part-$2"
    mv "${1%/*}/.part-$2" "$1"
}

# say RUN KEY STEP NUMBER: writes a dump and its log line.
say() {
    dump "$1/tensors/$4.npy" "$4"
    echo "{\"key\":\"$2\",\"step\":$3,\"data\":\"tensors/$4.npy\"}" >>"$1/a.media.jsonl"
}

# drop_in UNIT NAME: installs standard input as a drop-in of the unit.
drop_in() {
    mkdir -p "/etc/systemd/system/$1.d"
    cat >"/etc/systemd/system/$1.d/$2.conf"
    systemctl daemon-reload
}

# inside COMMAND...: runs a command as the daemon's user in the daemon's mount and network namespaces, without
# its seccomp filter.
inside() { nsenter --target "$(main_pid "${unit:-safelight}")" --mount --net setpriv --reuid=safelight --regid=safelight --init-groups "$@"; }

install_as_the_readme_says() {
    install -D -m 755 /opt/safelight /usr/bin/safelight
    bash -e $out/install.sh
}

# ---------------------------------------------------------------------------------------------------
# The unit as shipped, from the first start to the last stop. A job writes the whole time.

job() {
    local n=0
    while [ ! -e /tmp/enough ]; do
        if [ $((n % 2)) = 0 ]; then
            dump "/data/runs/live/dumps/seq/$(printf %06d $n).npy" $n
        else
            say /data/runs/live seq $n $n
        fi
        n=$((n + 1))
        sleep 0.05
    done
    echo $n >$out/n
}

is_restarted() {
    is ActiveState active && is NRestarts "$2" && [ "$(main_pid)" != "$1" ]
}

is_behind() {
    # The nice value of its session, if the kernel groups by session, and its control group.
    { [ ! -e /proc/"$1"/autogroup ] || grep -q 'nice 19' /proc/"$1"/autogroup; } &&
        grep -q safelight.slice/safelight.service /proc/"$1"/cgroup
}

is_gentle() {
    local pid
    pid="$(main_pid)"
    [ "$(stat -c %U /proc/"$pid")" = safelight ] &&
        grep -E '^(NoNewPrivs:\s1|Seccomp:\s2|CapBnd:\s0+|CapEff:\s0+)$' /proc/"$pid"/status | wc -l | grep -qx 4 &&
        [ "$(ps -o ni= -p "$pid" | tr -d ' ')" = 19 ] && is_behind "$pid" && chrt -p "$pid" | grep -q SCHED_BATCH &&
        [ "$(ionice -p "$pid")" = idle ] && [ "$(cat /proc/"$pid"/oom_score_adj)" = 500 ]
}

answers_at_once() {
    # The daemon sends READY=1 after its first scan, so there is no need to wait.
    ask status >/tmp/status && cat /tmp/status && grep -Eq 'watching  /data/runs \([a-z]+\): 2 runs' /tmp/status && ask health
}

has_items() {
    local n
    n="$(ask ls digits --json | wc -l)"
    echo "$n items"
    [ "$n" = 406 ]
}

is_seen_by_inotify() {
    ask status --json | grep -o '"backend":"[a-z]*"' | grep -qx '"backend":"inotify"' || return 1
    say /data/runs/live fresh 1 1000001
    # Scans come every half minute. Only an event is this fast.
    within 10 n_items image fresh 1
}

writes_nowhere_else() {
    local found
    found="$(find /run /tmp /var/tmp /dev/shm /data -user safelight -o -group safelight | sort)"
    echo "$found"
    [ "$found" = $'/run/safelight\n/run/safelight/control.sock\n/run/safelight/gallery.sock' ] || return 1
    inside touch /var/lib/safelight/probe && inside rm /var/lib/safelight/probe || return 1
    # Everybody may write to these folders. Only the sandbox forbids it.
    mkdir -m 777 /data/open /home/open
    chmod 777 /data/runs/live
    for place in /data/open /home/open /data/runs/live /dev/shm /mnt; do
        chmod 1777 /mnt
        refused 'Read-only file system\|Permission denied' inside touch $place/probe || return 1
    done
}

sees_no_network() {
    inside cat /proc/self/net/dev
    [ "$(inside cat /proc/self/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' ')" = lo ] &&
        [ "$(readlink /proc/"$(main_pid)"/ns/net)" != "$(readlink /proc/self/ns/net)" ]
}

is_answered_to_its_group_only() {
    useradd --groups safelight friend && useradd stranger || return 1
    runuser -u friend safelight ls digits >/dev/null || return 1
    runuser -u friend -- test -r /var/lib/safelight/runs/digits/run.json || return 1
    refused 'only root and the daemon.s own user' runuser -u friend safelight reload || return 1
    refused . runuser -u stranger safelight status
}

reloads() {
    local n
    sed -i '1i limits.max_items = 2' /etc/safelight/safelight.toml
    systemctl reload safelight || return 1
    # The configuration is applied when the command returns.
    for n in 1 2 3; do say /data/runs/live limited 1 $((2000000 + n)); done
    within 10 n_items held limited 1 && n_items image limited 2
}

keeps_the_last_configuration() {
    local good=/tmp/good.toml n
    cp /etc/safelight/safelight.toml $good
    sed -i '1i limits.max_itms = 3' /etc/safelight/safelight.toml
    refused 'failed' systemctl reload safelight || return 1
    is ActiveState active || return 1
    for n in 1 2 3; do say /data/runs/live limited 2 $((3000000 + n)); done
    config=$good within 10 n_items held limited 2 && config=$good n_items image limited 4 || return 1
    journalctl -u safelight -b --no-pager --output=cat | grep -q 'max_itms' || { echo "not in the journal"; return 1; }
}

is_killed_and_started() {
    local pid
    pid="$(main_pid)"
    kill -KILL "$pid"
    within 15 is_restarted "$pid" 1
}

is_watched() {
    local pid
    drop_in safelight.service watchdog <<<$'[Service]\nWatchdogSec=3'
    systemctl restart safelight || return 1
    pid="$(main_pid)"
    # A daemon that works is not restarted.
    sleep 5
    [ "$(main_pid)" = "$pid" ] && is NRestarts 0 || return 1
    kill -STOP "$pid"
    within 20 is_restarted "$pid" 1 || return 1
    journalctl -u safelight -b --no-pager --output=cat | grep -q 'Watchdog timeout'
}

stops() {
    local start=$SECONDS
    # At this level systemd logs each notification.
    systemctl log-level debug
    systemctl stop safelight && [ $((SECONDS - start)) -le 10 ] || return 1
    is Result success && is ActiveState inactive || return 1
    systemctl log-level info
    journalctl --sync
    journalctl -b --no-pager --output=cat | grep -c 'Got notification message from PID .*STOPPING=1' && [ ! -e /run/safelight ]
}

is_not_tried_again() {
    # The configuration file has an error.
    refused 'failed' systemctl start safelight || return 1
    # Longer than RestartSec.
    sleep 3
    is ActiveState failed && is NRestarts 0 && is ExecMainStatus 78 || return 1
    # The status shows the error and its line.
    systemctl status --full safelight | tee /dev/stderr | grep -q 'safelight.toml:1:[0-9]*: unknown field `max_itms`'
}

root_looks() {
    # Bug: after root ran `safelight ls`, files of root in the store kept the daemon from ever starting again.
    local found
    (umask 077; safelight ls >/dev/null) || return 1
    found="$(find /var/lib/safelight ! -user safelight -o ! -group safelight)"
    echo "$found"
    [ -z "$found" ] || return 1
    systemctl start safelight && kill -KILL "$(main_pid)" && safelight ls >/dev/null || return 1
    found="$(find /var/lib/safelight ! -user safelight -o ! -group safelight)"
    echo "$found"
    [ -z "$found" ]
}

is_complete() {
    sed -i '/^limits/d' /etc/safelight/safelight.toml
    systemctl start safelight || return 1
    touch /tmp/enough
    wait "$job"
    within 20 n_items image seq "$(cat $out/n)"
    ask ls live seq --json >$out/items.jsonl
}

part_service() {
    # Here a system call outside the filter kills the daemon, so that the checks find it. With the unit as
    # shipped, the call would only fail.
    drop_in safelight.service strict <<<$'[Service]\nSystemCallErrorNumber=kill'
    mkdir -p /data/runs
    cp -r examples/digits/run /data/runs/digits
    job &
    job=$!
    check installed install_as_the_readme_says
    check ready is ActiveState active
    check answers answers_at_once
    check items within 20 has_items
    check status-text within 10 eval "systemctl status safelight | grep 'Status: .*[0-9] images\?'"
    check gentle is_gentle
    check inotify is_seen_by_inotify
    check group-only is_answered_to_its_group_only
    check nowhere-else writes_nowhere_else
    check no-network sees_no_network
    check reload reloads
    check bad-reload keeps_the_last_configuration
    check bad-config eval 'systemctl stop safelight; is_not_tried_again'
    check repaired eval "sed -i '/^limits.max_itms/d' /etc/safelight/safelight.toml; systemctl start safelight"
    check killed is_killed_and_started
    check watchdog is_watched
    check stop stops
    check root-looks root_looks
    check complete is_complete
}

# ---------------------------------------------------------------------------------------------------
# Run directories in several places and of several owners, and the drop-ins.

as_trainer() { runuser -u trainer -- bash -c "out=$out; $(declare -f dump say); umask $1; ${*:2}"; }

removes_the_groups_dump() {
    ask prune --apply
    [ ! -e /data/team/of-the-group/tensors/1.npy ] && [ -e /home/trainer/runs/at-home/tensors/1.npy ]
}

scrapes() {
    exec 3<>/dev/tcp/127.0.0.1/9464 || return 1
    printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3
    grep -q '^safelight_items_in_total' <&3
}

is_read() { within 15 eval "ask ls $1 --state image --json | grep -q ."; }

part_places() {
    groupadd trainers
    useradd --create-home --gid trainers trainer
    chmod 710 /home/trainer
    install -d -o trainer -g trainers -m 2770 /data/team
    install -d -o trainer -g trainers -m 700 /data/private
    mkdir -p /data/later
    # Enables the lines that are commented out.
    mkdir -p /usr/lib/sysusers.d /usr/lib/tmpfiles.d
    sed 's/^#m /m /' systemd/safelight.sysusers >/usr/lib/sysusers.d/safelight.conf
    systemd-sysusers
    sed 's/^#d /d /; s/^#a+ .data.runs /a+ \/data\/private /' systemd/safelight.tmpfiles >/usr/lib/tmpfiles.d/safelight.conf
    check tmpfiles systemd-tmpfiles --create safelight.conf
    install -D -m 755 /opt/safelight /usr/bin/safelight
    install -m 644 -t /etc/systemd/system systemd/safelight.service systemd/safelight.slice
    drop_in safelight.service strict <<<$'[Service]\nSystemCallErrorNumber=kill\nReadWritePaths=/data/safelight'
    cat >/etc/safelight/safelight.toml <<'END'
store.path = "/data/safelight"
ingest.scan_ms = 1000
retention.dumps = "committed"
retention.dump_age_min_s = 1
[[watch]]
path = "/data/team"
[[watch]]
path = "/home/trainer/runs"
[[watch]]
path = "/data/private"
[[watch]]
path = "/data/later"
[[watch]]
path = "/data/not-there-yet"
END
    check start systemctl start safelight
    as_trainer 007 'say /data/team/of-the-group k 1 1'
    check of-the-group is_read of-the-group
    as_trainer 027 'say /home/trainer/runs/at-home k 1 1'
    check at-home is_read at-home
    as_trainer 077 'say /data/private/by-acl k 1 1; dump /data/private/by-acl/dumps/k/2.npy 2'
    check by-acl is_read by-acl
    mount -t tmpfs tmpfs /data/later
    say /data/later/mounted-later k 1 1
    check mounted-later is_read mounted-later
    mkdir /data/not-there-yet
    say /data/not-there-yet/made-later k 1 1
    check made-later is_read made-later
    check store-elsewhere test -d /data/safelight/runs/at-home -a ! -e /var/lib/safelight/runs

    # The configuration and the file's permissions allow the removal of the dump. The unit's sandbox does not.
    check no-removal eval "ask prune --apply | tee /dev/stderr | grep -q 'may not write its folder'"
    check still-there test -e /data/team/of-the-group/tensors/1.npy
    sed 's,/data/runs,/data/team,' systemd/safelight-retention.conf >/etc/systemd/system/safelight.service.d/retention.conf
    install -D -m 644 systemd/safelight-network.conf /etc/systemd/system/safelight.service.d/network.conf
    sed -i 's/^#LoadCredential/LoadCredential/' /etc/systemd/system/safelight.service.d/network.conf
    (umask 077; echo secret >/etc/safelight/credentials/team)
    systemctl daemon-reload
    sed -i '1i metrics.listen = "127.0.0.1:9464"' /etc/safelight/safelight.toml
    check drop-ins systemctl restart safelight
    check metrics scrapes
    check removal removes_the_groups_dump
    check network eval '[ "$(readlink /proc/$(main_pid)/ns/net)" = "$(readlink /proc/self/ns/net)" ]'
    check credential inside grep -qx secret /run/credentials/safelight.service/team
    check credential-of-nobody-else refused 'Permission denied' runuser -u trainer cat /run/credentials/safelight.service/team
    check still-read eval "as_trainer 007 'say /data/team/again k 1 1'; is_read again"
    check end systemctl stop safelight
}

# ---------------------------------------------------------------------------------------------------
# Two instances of the template beside the plain unit.

instance() {
    cat >"/etc/safelight/$1.toml" <<END
[store]
path = "/var/lib/safelight-$1"
[control]
socket = "/run/safelight-$1/control.sock"
[[watch]]
path = "/data/$1"
END
}

items_of() { within 10 eval "ask ls --config /etc/safelight/$1.toml --json | grep -q '\"run\":\"of-$1\"'"; }

instances_are_apart() {
    local n
    for n in red blue; do
        n="$(ask ls --config /etc/safelight/$n.toml --json | wc -l)"
        [ "$n" = 1 ] || { echo "$n items"; return 1; }
    done
    unit=safelight@red refused 'Read-only file system' inside touch /var/lib/safelight-blue/probe
}

others_go_on() {
    systemctl stop safelight safelight@red || return 1
    [ ! -e /run/safelight ] && [ ! -e /run/safelight-red ] || return 1
    say /data/blue/of-blue k 2 2
    within 10 eval 'ask ls --config /etc/safelight/blue.toml --json | wc -l | grep -qx 2'
}

part_instances() {
    mkdir -p /data/runs
    install_as_the_readme_says
    for name in red blue; do
        instance $name
        say /data/$name/of-$name k 1 1
    done
    check instances systemctl enable --now safelight@red safelight@blue
    check red items_of red
    check blue items_of blue
    check apart instances_are_apart
    instance green
    sed -i s/safelight-green/safelight-red/ /etc/safelight/green.toml
    check wrong-store refused failed systemctl start safelight@green
    systemctl stop safelight@green
    check others-go-on others_go_on
    check reload-one eval 'sed -i "1i limits.max_items = 3" /etc/safelight/blue.toml; systemctl reload safelight@blue'
    check stop systemctl stop safelight@blue
}

# ---------------------------------------------------------------------------------------------------
# The gallery on a port that systemd opens, because the daemon has no network.

# http PATH [HEADER]: asks the port, and prints the whole answer.
http() {
    exec 3<>/dev/tcp/127.0.0.1/7878 || return 1
    printf 'GET %s HTTP/1.1\r\nHost: localhost:7878\r\nConnection: close\r\n%s\r\n' "$1" "${2:+$2$'\r\n'}" >&3
    cat <&3
    exec 3>&-
}

answers() { http "$2" "${3:-}" | tee /dev/stderr | head -n 1 | grep -q "^HTTP/1.1 $1 "; }

logs_in() {
    local url cookie
    url="$(ask gallery --json | grep -o '"url":"[^"]*"' | cut -d'"' -f4)"
    cookie="$(http "/${url#http://*/}" | tr -d '\r' | grep -i '^set-cookie:' | cut -d' ' -f2 | cut -d';' -f1)"
    [ -n "$cookie" ] || { echo "no cookie from $url"; return 1; }
    within 10 eval "http /api/v1/runs 'Cookie: $cookie' | grep -q '\"run\":\"job\"'"
}

part_gallery() {
    mkdir -p /data/runs
    say /data/runs/job k 1 1
    install_as_the_readme_says
    drop_in safelight.service strict <<<$'[Service]\nSystemCallErrorNumber=kill'
    cat >/etc/safelight/safelight.toml <<'END'
gallery.listen = "systemd"
store.path = "/var/lib/safelight"
[[watch]]
path = "/data/runs"
END
    install -m 644 -t /etc/systemd/system systemd/safelight-gallery.socket
    systemctl daemon-reload
    sed -n '/^systemctl enable safelight-gallery/,/^```/{/^```/!p}' docs/gallery.md >/tmp/socket.sh
    check socket bash -ex /tmp/socket.sh
    check login-needed answers 401 /api/v1/runs
    check login logs_in
    check no-network sees_no_network
    check restart eval 'systemctl restart safelight && logs_in'
    # The socket stays open while no daemon runs, and the next browser starts one.
    check stop eval 'systemctl stop safelight && is ActiveState inactive && is ActiveState active safelight-gallery.socket'
    check started-by-a-browser within 15 answers 401 /api/v1/runs
    check runs-again within 30 is ActiveState active
    check end systemctl stop safelight-gallery.socket safelight
}

# ---------------------------------------------------------------------------------------------------
# The user unit, for a user who isn't root.

part_user() {
    useradd --create-home --shell /bin/bash alice
    loginctl enable-linger alice
    check manager within 10 test -S "/run/user/$(id -u alice)/systemd/private"
    runuser -l alice -c "bash /opt/repository/tests/systemd/guest.sh user_herself"
}

user_is_sandboxed() {
    local pid
    pid="$(systemctl --user show --property=MainPID --value safelight)"
    [ "$(readlink "/proc/$pid/ns/user")" != "$(readlink /proc/self/ns/user)" ] || { echo 'no namespace'; return 1; }
    # The file system is read-only, except for the store.
    grep -E " $HOME/.local/share/safelight .* rw" "/proc/$pid/mountinfo" &&
        grep -E " / / ro" "/proc/$pid/mountinfo"
}

part_user_herself() {
    XDG_RUNTIME_DIR="/run/user/$(id -u)"
    export XDG_RUNTIME_DIR PATH="$HOME/.local/bin:$PATH"
    install -D -m 755 /opt/safelight ~/.local/bin/safelight
    # The commands at the top of the unit, without those that build and edit.
    grep -E '^#   (install|systemctl)' systemd/user/safelight.service | sed 's/^#   //; /safelight.toml/d' >~/install.sh
    mkdir -p ~/.config/safelight ~/runs
    printf '[[watch]]\npath = "%s/runs"\n' "$HOME" >~/.config/safelight/safelight.toml
    say ~/runs/mine k 1 1
    check start bash -ex ~/install.sh
    check kept within 10 eval "safelight ls mine --json | grep -q ."
    check status-text within 10 eval "systemctl --user status safelight | grep 'Status: .*images\?'"
    check socket test -S "$XDG_RUNTIME_DIR/safelight/control.sock"
    check store test -d ~/.local/share/safelight/runs/mine
    check reload systemctl --user reload safelight
    if unshare -Ur true; then
        sed -n 's/^#   //p' systemd/user/sandbox.conf >~/sandbox.sh
        check sandbox bash -ex ~/sandbox.sh
        check sandboxed user_is_sandboxed
    else
        echo 'none sandbox'
    fi
    say ~/runs/mine k 2 2
    check kept-on within 10 eval "safelight ls mine --json | wc -l | grep -qx 2"
    check stop systemctl --user stop safelight
}

# ---------------------------------------------------------------------------------------------------
# The Debian package, from its installation to its purge. /opt/out has two, of which the second is an upgrade.

is_not_started() {
    is ActiveState inactive && is UnitFileState disabled && is LoadState loaded
}

has_its_files() {
    dpkg --verify safelight && getent passwd safelight && [ -d /etc/safelight/credentials ] &&
        [ -s /usr/share/man/man1/safelight-ingest.1.gz ] && safelight --version &&
        [ "$(dpkg-query -W -f '${Conffiles}' safelight | wc -w)" = 2 ]
}

# is_restarted_after PID UNIT: checks that an upgrade restarted a unit.
is_restarted_after() {
    within 20 is ActiveState active "$2" && [ "$(main_pid "$2")" != "$1" ]
}

purges() {
    dpkg --purge safelight 2>&1 | tee /tmp/purge && grep -q '/var/lib/safelight is kept' /tmp/purge &&
        [ ! -e /etc/safelight ] && [ ! -e /usr/bin/safelight ]
}

part_package() {
    local before other
    export DEBIAN_FRONTEND=noninteractive
    check install dpkg -i $out/first.deb
    check not-started is_not_started
    check files has_its_files
    check default-valid safelight validate --config /etc/safelight/safelight.toml
    printf '\n[[watch]]\npath = "/data/runs"\n' >>/etc/safelight/safelight.toml
    instance other
    mkdir -p /data/runs /data/other
    say /data/runs/live k 1 1
    check start systemctl enable --now safelight
    check picture within 10 n_items image k 1
    check user-unit env HOME=/root XDG_RUNTIME_DIR=/run systemd-analyze verify --user /usr/lib/systemd/user/safelight.service
    check user-example eval 'example="$(grep -o "/usr/share/doc/[^ ;]*" /usr/lib/systemd/user/safelight.service)" &&
        safelight validate --config "$example" && ! grep -q "^\[store\]" "$example"'
    check instance systemctl start safelight@other
    before="$(main_pid)" other="$(main_pid safelight@other)"
    check upgrade dpkg -i $out/second.deb
    check restarted eval "is_restarted_after $before safelight && is_restarted_after $other safelight@other"
    check configuration-kept grep -q '"/data/runs"' /etc/safelight/safelight.toml
    say /data/runs/live k 2 2
    check picture-after within 10 n_items image k 2
    check remove dpkg --remove safelight
    check stopped eval "! pgrep -x safelight && [ -s /etc/safelight/safelight.toml ]"
    rm /etc/safelight/other.toml
    check purge purges
    check store-kept eval "ls /var/lib/safelight/runs/live/media/images/*.png"
}

# ---------------------------------------------------------------------------------------------------
# `safelight service`, for the machine and for a user.

has_items_of() { within 20 eval "ask ls $1 --json | grep -q ."; }

# tells PATTERN COMMAND...: checks that the output of a command matches, whether it fails or not.
tells() {
    local said
    said="$("${@:2}" 2>&1)"
    echo "$said"
    grep -q -- "$1" <<<"$said"
}

is_written_once() {
    local before
    before="$(sha256sum /etc/safelight/safelight.toml)"
    safelight service install /data/runs || return 1
    [ "$(sha256sum /etc/safelight/safelight.toml)" = "$before" ] &&
        [ "$(grep -c '^\[\[watch\]\]' /etc/safelight/safelight.toml)" = 2 ]
}

# Targets that the sandbox forbids: the health says so at once, and names the drop-in.
names_the_sandbox() {
    printf '[sync.net]\nkind = "mlflow"\nurl = "http://10.0.0.1:5000"\n' >>/etc/safelight/safelight.toml
    printf '[sync.disk]\nkind = "tensorboard"\npath = "/data/tensorboard"\n' >>/etc/safelight/safelight.toml
    systemctl reload safelight || return 1
    within 20 tells 'target net: .*the systemd unit forbids it: .*safelight-network.conf' safelight health &&
        within 20 tells 'target disk: .*forbids it: .*ReadWritePaths=/data/tensorboard' safelight health
}

is_removed() {
    safelight service uninstall && cat /etc/safelight/safelight.toml || return 1
    [ ! -e /etc/systemd/system/safelight.service ] && [ ! -e /etc/sysusers.d/safelight.conf ] &&
        [ -d /var/lib/safelight/runs/first ] && refused . systemctl is-active safelight
}

part_service_command() {
    install -D -m 755 /opt/safelight /usr/local/bin/safelight
    say /data/runs/first k 1 1
    check no-service tells 'not installed' safelight service status
    check needs-root refused 'needs root.*--user' runuser -u nobody -- safelight service install /data/runs
    check install safelight service install /data/runs
    check items has_items_of first
    check status tells '^service   active, enabled' safelight service status
    check healthy safelight service status
    check gallery tells 'ssh -N -L 7878:/run/safelight/gallery.sock' safelight gallery
    say /data/more/sweep/second k 1 1
    check add safelight service install /data/more
    check items-added eval 'has_items_of sweep/second'
    check once is_written_once
    mkdir -p /tmp/runs /home/closed/runs
    chmod 700 /home/closed
    safelight service install /tmp/runs /home/closed/runs
    check private-tmp within 10 tells '/tmp/runs: the directory is missing: .*PrivateTmp=no' safelight service status
    check closed-home within 10 tells 'the user safelight may not enter /home/closed (mode 0700, of root)' safelight service status
    check sandbox names_the_sandbox
    check uninstall is_removed
    check uninstall-again tells 'no service to remove' safelight service uninstall
    echo '[Service]' >/etc/systemd/system/safelight.service
    check foreign-unit refused 'was not written by' safelight service install /data/runs
    rm /etc/systemd/system/safelight.service
    # A unit of a package: an older one of our own hides it, and it is not ours to stop.
    check install-again safelight service install /data/runs
    install -D -m 644 /opt/repository/systemd/safelight.service /usr/lib/systemd/system/safelight.service
    sed -i 's#/usr/bin/#/usr/local/bin/#' /usr/lib/systemd/system/safelight.service
    check hidden-package tells 'hides the unit of the package' safelight service install /data/runs
    check uninstall-own safelight service uninstall
    systemctl start safelight
    check foreign-stays refused 'systemctl disable --now safelight.service' safelight service uninstall
    check foreign-runs is ActiveState active
    systemctl stop safelight
    rm /usr/lib/systemd/system/safelight.service
    systemctl daemon-reload
    useradd --create-home --shell /bin/bash alice
    install -m 700 -o alice /opt/safelight /home/alice/safelight
    chmod 700 /home/alice
    check closed-program refused 'may not run /home/alice/safelight' /home/alice/safelight service install /data/runs
    # Without PAM, which would start a manager.
    check no-manager refused 'loginctl enable-linger' setpriv --reuid=alice --regid=alice --init-groups \
        env -u XDG_RUNTIME_DIR HOME=/home/alice /home/alice/safelight service install --user
    loginctl enable-linger alice
    check manager within 10 test -S "/run/user/$(id -u alice)/systemd/private"
    runuser -l alice -c "bash /opt/repository/tests/systemd/guest.sh service_command_user"
}

part_service_command_user() {
    XDG_RUNTIME_DIR="/run/user/$(id -u)"
    export XDG_RUNTIME_DIR PATH="$HOME:$PATH"
    mkdir -p ~/runs
    say ~/runs/mine k 1 1
    check user-install safelight service install --user ~/runs
    check user-items within 10 eval "safelight ls mine --json | grep -q ."
    check user-store test -d ~/.local/share/safelight/runs/mine
    check user-status safelight service status --user
    check user-gallery tells 'http://localhost:' safelight gallery
    check user-reload systemctl --user reload safelight
    check user-uninstall eval 'safelight service uninstall --user && [ ! -e ~/.config/systemd/user/safelight.service ]'
}

"part_$1"
if [ "$(id -u)" = 0 ]; then
    journalctl --sync
    journalctl -b --priority=info --no-pager --output=short-precise --unit='safelight*' --unit='user@*' >$out/journal
    journalctl -b --no-pager --output=short-precise --user-unit=safelight >>$out/journal
fi
