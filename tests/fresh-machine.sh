#!/bin/sh
# `make demo ONCE=1` and `make test` on a bare Debian 12 with git, ca-certificates, make and a Rust toolchain,
# and nothing else, as root and as an ordinary user with sudo. Needs root, mmdebstrap and this machine's Rust.
# Usage: tests/fresh-machine.sh [root|user|both] [demo|test|all]
set -eu
cd "$(dirname "$0")/.."
who=${1:-both}
what=${2:-all}
work=$(mktemp -d "${TMPDIR:-/var/tmp}/campanile-fresh.XXXXXX")
chroot="$work/root"

cleanup() {
    for mounted in proc dev/pts dev/shm dev sys; do umount -l "$chroot/$mounted" 2>/dev/null || true; done
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

stamp() { date +%s; }
report() { printf 'fresh-machine: %-28s %5d s\n' "$1" "$2"; }

began=$(stamp)
mmdebstrap --quiet --variant=minbase --include=git,ca-certificates,make,sudo bookworm "$chroot"
report "mmdebstrap minbase" $(($(stamp) - began))

mount -t proc proc "$chroot/proc"
mount --rbind /dev "$chroot/dev"
mount -t sysfs sys "$chroot/sys"
cp /etc/resolv.conf /etc/hosts "$chroot/etc/"
[ ! -d /etc/apt/apt.conf.d ] || cp -n /etc/apt/apt.conf.d/* "$chroot/etc/apt/apt.conf.d/" 2>/dev/null || true
cp -a /usr/local/share/ca-certificates/. "$chroot/usr/local/share/ca-certificates/" 2>/dev/null || true
cp /etc/ssl/certs/ca-certificates.crt "$chroot/etc/ssl/certs/ca-certificates.crt"

# The toolchain that `cargo` here stands for, without rustup and without anything cached.
sysroot=$(rustc --print sysroot)
mkdir -p "$chroot/opt/rust"
cp -a "$sysroot/." "$chroot/opt/rust/"
chroot "$chroot" useradd --create-home --shell /bin/sh tizio
echo 'tizio ALL=(ALL) NOPASSWD: ALL' > "$chroot/etc/sudoers.d/tizio"
chmod 440 "$chroot/etc/sudoers.d/tizio"

failed=0
as() {
    user=$1
    home=$2
    shift 2
    chroot "$chroot" /usr/bin/env -i HOME="$home" PATH=/opt/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        LANG=C.UTF-8 ${CARGO_HTTP_PROXY:+CARGO_HTTP_PROXY="$CARGO_HTTP_PROXY"} \
        setpriv --reuid "$user" --regid "$user" --init-groups sh -c "$*"
}

try() {
    user=$1
    home=$2
    git clone -q --no-hardlinks . "$chroot$home/campanile"
    chroot "$chroot" chown -R "$user:$user" "$home/campanile"
    for step in demo test; do
        [ "$what" = all ] || [ "$what" = "$step" ] || continue
        command="make $step"
        [ "$step" = test ] || command="make demo ONCE=1"
        began=$(stamp)
        if as "$user" "$home" "cd $home/campanile && $command" > "$work/$user-$step.log" 2>&1; then
            report "$user: $command" $(($(stamp) - began))
        else
            report "$user: $command FAILED" $(($(stamp) - began))
            tail -n 40 "$work/$user-$step.log"
            failed=1
        fi
        tail -n 3 "$work/$user-$step.log"
    done
    rm -rf "$chroot$home/campanile/target"
}

[ "$who" = user ] || try root /root
[ "$who" = root ] || try tizio /home/tizio
exit "$failed"
