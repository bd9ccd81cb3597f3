#!/bin/sh
# docs/install.md from its first line to its last on a bare Debian 12, with the packages of `make deb`: every block that
# is fenced as sh is executed as it stands, in order. What the machine lends: simulated cameras under the names of the
# page's cameras, a name for the hub, a sparse file as the box's disk, and, because no systemd runs in a chroot, a
# systemctl that starts the ExecStart of the installed unit (tests/install/systemctl).
# A comment before a block says what the page promises: <!-- prints: TEXT --> (asked again until it does), and
# <!-- newer --> puts packages of a later version in the place of the installed ones.
# BOOT=1 boots the machine's own systemd in namespaces instead (tests/install/boot.sh): nothing stands in for anything, and
# what shuts the services in is in force and looked at.
# Needs root, mmdebstrap and a loop device. PROFILE=release tries what is released. KEEP=1 leaves the machine.
set -eu
cd "$(dirname "$0")/.."
profile=${PROFILE:-dev}
[ "$(id -u)" = 0 ] || { echo "install.sh: must be root" >&2; exit 64; }
command -v mmdebstrap >/dev/null || { echo "install.sh: apt-get install mmdebstrap" >&2; exit 69; }

work=$(mktemp -d "${TMPDIR:-/var/tmp}/campanile-install.XXXXXX")
chroot=$work/machine
loop=
cameras=
booted=
first=
began=$(date +%s)
environment="HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
said() { printf 'install: %4d s  %s\n' $(($(date +%s) - began)) "$1"; }

end_services() {
    for pid in "$chroot"/run/stand-in/*.pid; do
        [ ! -f "$pid" ] || kill "$(cat "$pid")" 2>/dev/null || true
    done
    for pid in "$chroot"/run/stand-in/*.pid; do
        [ ! -f "$pid" ] || timeout 30 tail --pid="$(cat "$pid")" -f /dev/null || true
    done
}
cleanup() {
    if [ -n "$booted" ]; then
        kill -KILL "$first" 2>/dev/null || true
        wait "$booted" 2>/dev/null || true
    fi
    end_services
    [ -z "$cameras" ] || kill "$cameras" 2>/dev/null || true
    for mounted in var/lib/campanile/media proc sys run dev; do
        umount -R "$chroot/$mounted" 2>/dev/null || umount -R -l "$chroot/$mounted" 2>/dev/null || true
    done
    [ -z "$loop" ] || losetup -d "$loop" || true
    # Whatever could not be unmounted is not ours to delete.
    [ -n "${KEEP:-}" ] || rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

make deb PROFILE="$profile"
[ "$profile" = dev ] || cargo build --workspace --bins --lib
version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
mkdir "$work/newer"
binaries=target/debug
[ "$profile" = dev ] || binaries=target/$profile
VERSION="$version+later" COMPRESSION=none hardware/debian/package.sh "$binaries" "$work/newer" >/dev/null
said "packages of version $version"

# A bare machine.
mmdebstrap --quiet --variant=minbase --include=ca-certificates${BOOT:+,systemd,dbus} bookworm "$chroot"
cp /etc/resolv.conf "$chroot/etc/"
[ ! -d /etc/apt/apt.conf.d ] || cp -n /etc/apt/apt.conf.d/* "$chroot/etc/apt/apt.conf.d/" 2>/dev/null || true
cp /etc/ssl/certs/ca-certificates.crt "$chroot/etc/ssl/certs/ca-certificates.crt"
cp target/deb/campanile-hub_"$version"_*.deb target/deb/campanile-edge_"$version"_*.deb "$chroot/root/"
printf '127.0.0.1 localhost campanile.comune.example\n127.0.0.2 telecamera-nord telecamera-sud\n' > "$chroot/etc/hosts"
said "a bare Debian 12"

# The box's second disk: a file that takes no room before it is written to.
truncate -s 200G "$work/disk"
loop=$(losetup --find --show "$work/disk")
device="$(printf '%d' "0x$(stat -c %t "$loop")") $(printf '%d' "0x$(stat -c %T "$loop")")"

# Runs a command in the machine.
inside() {
    if [ -n "$booted" ]; then
        nsenter --target "$first" --mount --pid --uts --ipc --cgroup --root --wd /usr/bin/env -i $environment "$@"
    else
        chroot "$chroot" /usr/bin/env -i $environment "$@"
    fi
}

mounts() {
    mount -t proc proc "$chroot/proc"
    mount -t sysfs -o ro sys "$chroot/sys"
    mount -t tmpfs -o mode=755 run "$chroot/run"
    mount -t tmpfs -o mode=755 dev "$chroot/dev"
    for node in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0"; do
        # shellcheck disable=SC2086
        set -- $node
        mknod -m 666 "$chroot/dev/$1" c "$2" "$3"
    done
    ln -s /proc/self/fd "$chroot/dev/fd"
    mkdir "$chroot/dev/shm"
    chmod 1777 "$chroot/dev/shm"
    for name in sdb "${loop#/dev/}"; do
        # shellcheck disable=SC2086
        mknod "$chroot/dev/$name" b $device
    done
    # In the place of the real one also for maintainer scripts, which look at the folder below whether systemd runs.
    chroot "$chroot" dpkg-divert --quiet --local --rename --add /bin/systemctl
    cp tests/install/systemctl "$chroot/usr/bin/systemctl"
    mkdir -p "$chroot/run/systemd/system"
}
if [ -n "${BOOT:-}" ]; then
    # shellcheck disable=SC2086
    tests/install/boot.sh "$chroot" sdb $device "${loop#/dev/}" $device > "$work/boot.log" 2>&1 &
    booted=$!
    tries=0
    until first=$(pgrep -P "$(pgrep -P "$booted" || echo 0)") && [ "$(basename "$(readlink "/proc/$first/exe")")" = systemd ]; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || { cat "$work/boot.log"; exit 1; }
        sleep 0.2
    done
    inside timeout 60 systemctl is-system-running --wait || true
    said "systemd runs as process 1 of its namespaces"
else
    mounts
fi

# The cameras, with the password that the page gives them.
small='main_width = 640, main_height = 360, main_fps = 10, sub_width = 320, sub_height = 180, sub_fps = 5.0, loop_s = 16.0'
mkdir -p "$work/logs" target/scenes
(
    umask 077
    {
        printf 'listen = "127.0.0.2:554"\nlog_dir = "%s"\ncache_dir = "%s"\nready_file = "%s"\n' \
            "$work/logs" "$PWD/target/scenes" "$work/ready"
        number=1
        for name in nord sud; do
            printf '[[camera]]\nname = "%s"\nnumber = %d\nusername = "campanile"\npassword = "%s"\ncodec = "h264"\n' \
                "$name" "$number" "the password of the cameras"
            printf 'scene = { seed = %d, light = "day", activity = "busy", %s }\n' "$number" "$small"
            number=$((number + 1))
        done
    } > "$work/cameras.toml"
)
target/debug/campanile-simcam serve --config "$work/cameras.toml" > "$work/cameras.log" 2>&1 &
cameras=$!
waited=0
until [ -e "$work/ready" ]; do
    kill -0 "$cameras" && [ $waited -lt 600 ] || { cat "$work/cameras.log"; exit 1; }
    sleep 1
    waited=$((waited + 1))
done
said "simulated cameras"

# The page's blocks: NUMBER.sh, and beside it NUMBER.prints and NUMBER.newer where a comment asks for it.
mkdir "$chroot/root/page"
awk -v folder="$chroot/root/page/" '
    /<!-- prints: .* -->/ { wanted = $0; sub(/.*<!-- prints: /, "", wanted); sub(/ -->.*/, "", wanted) }
    /<!-- newer -->/ { newer = 1 }
    /^ *```sh$/ {
        block = sprintf("%s%02d", folder, ++count); inside = 1
        if (wanted != "") { print wanted > (block ".prints"); close(block ".prints") }
        if (newer) { print "" > (block ".newer"); close(block ".newer") }
        wanted = ""; newer = 0; next
    }
    /^ *```$/ { if (inside) close(block ".sh"); inside = 0; next }
    inside { print > (block ".sh") }
' docs/install.md

# Only where systemd runs: what shuts the services and the analysing children in, and that a service that hangs or dies is
# started again.
look_at_services() {
    # shellcheck disable=SC2016
    inside sh -euc '
        of() { systemctl show --property "$2" --value "campanile-$1"; }
        for service in hub edge; do
            main=$(of $service MainPID)
            grep -q "^Seccomp:.2" "/proc/$main/status"
            grep -q "^CapBnd:.0000000000000000" "/proc/$main/status"
            grep -q "^NoNewPrivs:.1" "/proc/$main/status"
            grep -q "^[^ ]* / [^ ]* ro," "/proc/$main/mounts"
            [ "$(of $service NRestarts)" = 0 ]
        done
        journalctl --no-pager -u campanile-edge | grep -q "sandbox=seccomp, all threads, Landlock"
        restarted() {
            waited=0
            while [ "$(of "$1" NRestarts)" = 0 ] || [ "$(of "$1" ActiveState)" != active ]; do
                waited=$((waited + 1))
                [ $waited -lt 150 ] || exit 1
                sleep 1
            done
            echo "campanile-$1: again after $waited s"
        }
        kill -KILL "$(of hub MainPID)"
        restarted hub
        kill -STOP "$(of edge MainPID)"
        restarted edge
    '
    said "the services are shut in, and come back when they die or hang"
}

blocks=0
for script in "$chroot"/root/page/*.sh; do
    block=$(basename "$script" .sh)
    if [ -e "$chroot/root/page/$block.newer" ]; then
        rm "$chroot"/root/campanile-*.deb
        cp "$work"/newer/*.deb "$chroot/root/"
    fi
    wanted=$(cat "$chroot/root/page/$block.prints" 2>/dev/null || true)
    tries=0
    while :; do
        status=0
        inside sh -eux "/root/page/$block.sh" </dev/null > "$work/$block.log" 2>&1 || status=$?
        if [ $status = 0 ] && { [ -z "$wanted" ] || grep -v '^+ ' "$work/$block.log" | grep -qF -- "$wanted"; }; then break; fi
        tries=$((tries + 1))
        if [ -z "$wanted" ] || [ $tries -ge 60 ]; then
            said "block $block FAILED with $status${wanted:+, without \"$wanted\"}"
            cat "$script" "$work/$block.log"
            tail -n 40 "$chroot"/var/log/campanile-*.log 2>/dev/null ||
                inside journalctl --no-pager -n 80 -u campanile-hub -u campanile-edge
            exit 1
        fi
        sleep 2
    done
    blocks=$((blocks + 1))
    said "block $block: $(head -n 1 "$script" | cut -c 1-80)"
    case "$(cat "$script")" in
    *"campanile-hub search"*)
        grep -v '^+ ' "$work/$block.log"
        said "the first search is answered"
        [ -z "$booted" ] || look_at_services
        ;;
    esac
done

# What the page says of its last block.
# shellcheck disable=SC2016
inside sh -euc '
    [ ! -e /usr/bin/campanile-hub ] && [ ! -e /etc/campanile/edge.toml ]
    [ -d /var/lib/campanile-hub/keyring ] && [ -e /var/lib/campanile/media/.campanile-disk ]
    [ -n "$(find /var/lib/campanile/media -type f -size +10k)" ]
'
said "$blocks blocks of docs/install.md done; removed, and its footage, keys and register kept"
