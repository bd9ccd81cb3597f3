#!/bin/sh
# `make demo ONCE=1` and `make test` on a bare Debian 12 with git, ca-certificates, make and a Rust toolchain,
# and nothing else: as root, as an ordinary user with sudo, and as one without, who must be told what to type.
# Needs root, mmdebstrap and this machine's Rust.
# Usage: tests/fresh-machine.sh [root|user|both] [demo|test|all]
set -eu
cd "$(dirname "$0")/.."
who=${1:-both}
what=${2:-all}
work=$(mktemp -d "${TMPDIR:-/var/tmp}/campanile-fresh.XXXXXX")
chroot=

unmount() {
    [ -n "$chroot" ] || return 0
    for mounted in proc dev sys; do
        umount -R "$chroot/$mounted" 2>/dev/null || umount -R -l "$chroot/$mounted" 2>/dev/null || true
    done
}
cleanup() {
    unmount
    # Whatever could not be unmounted is not ours to delete.
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

stamp() { date +%s; }
report() { printf 'fresh-machine: %-36s %5d s\n' "$1" "$2"; }

# A machine of its own for each user, or the first would install what the second must.
make_machine() {
    chroot="$work/$1"
    began=$(stamp)
    mmdebstrap --quiet --variant=minbase --include=git,ca-certificates,make${2:+,$2} bookworm "$chroot"
    report "$1: mmdebstrap minbase" $(($(stamp) - began))
    mount -t proc proc "$chroot/proc"
    mount --rbind /dev "$chroot/dev"
    mount --make-rslave "$chroot/dev"
    mount -t sysfs sys "$chroot/sys"
    cp /etc/resolv.conf /etc/hosts "$chroot/etc/"
    [ ! -d /etc/apt/apt.conf.d ] || cp -n /etc/apt/apt.conf.d/* "$chroot/etc/apt/apt.conf.d/" 2>/dev/null || true
    cp -a /usr/local/share/ca-certificates/. "$chroot/usr/local/share/ca-certificates/" 2>/dev/null || true
    cp /etc/ssl/certs/ca-certificates.crt "$chroot/etc/ssl/certs/ca-certificates.crt"
    # The toolchain that `cargo` here stands for, without rustup and without anything cached.
    mkdir -p "$chroot/opt/rust"
    cp -a "$(rustc --print sysroot)/." "$chroot/opt/rust/"
    # Where crates come from on this machine, and nothing that was fetched before.
    cargo_home=${CARGO_HOME:-$HOME/.cargo}
    for file in config.toml config; do
        [ ! -f "$cargo_home/$file" ] || { mkdir -p "$chroot/opt/cargo" && cp "$cargo_home/$file" "$chroot/opt/cargo/"; }
    done
    chroot "$chroot" useradd --create-home --shell /bin/sh tizio
    if [ -n "${2:-}" ]; then
        echo 'tizio ALL=(ALL) NOPASSWD: ALL' > "$chroot/etc/sudoers.d/tizio"
        chmod 440 "$chroot/etc/sudoers.d/tizio"
    fi
}

as() {
    user=$1
    home=$2
    shift 2
    mkdir -p "$chroot$home/.cargo"
    [ ! -d "$chroot/opt/cargo" ] || cp "$chroot"/opt/cargo/* "$chroot$home/.cargo/"
    chroot "$chroot" chown -R "$user:$user" "$home/.cargo"
    chroot "$chroot" /usr/bin/env -i HOME="$home" PATH=/opt/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        LANG=C.UTF-8 ${CARGO_HTTP_PROXY:+CARGO_HTTP_PROXY="$CARGO_HTTP_PROXY"} \
        setpriv --reuid "$user" --regid "$user" --init-groups sh -c "$*" </dev/null
}

checkout() {
    git clone -q --no-hardlinks . "$chroot$2/campanile"
    chroot "$chroot" chown -R "$1:$1" "$2/campanile"
}

failed=0
try() {
    user=$1
    home=$2
    checkout "$user" "$home"
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
}

# Neither root nor sudo: the line to type, and 69 from the script (make itself then ends with 2).
refused() {
    checkout tizio /home/tizio
    status=0
    as tizio /home/tizio "cd /home/tizio/campanile && tests/setup.sh demo" > "$work/refused.log" 2>&1 || status=$?
    if [ "$status" = 69 ] && grep -q 'apt-get update && apt-get install' "$work/refused.log"; then
        report "tizio without sudo: told what to type" 0
    else
        report "tizio without sudo: exit $status, not 69 FAILED" 0
        cat "$work/refused.log"
        failed=1
    fi
}

machine() {
    make_machine "$1" "$2"
    shift 2
    "$@"
    unmount
    rm -rf --one-file-system "$chroot"
}

machine plain "" refused
[ "$who" = user ] || machine root "" try root /root
[ "$who" = root ] || machine user sudo try tizio /home/tizio
exit "$failed"
