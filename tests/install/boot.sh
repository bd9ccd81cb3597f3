#!/bin/sh
# `boot.sh MACHINE [NAME MAJOR MINOR]...` boots the systemd of a folder that holds a Debian, as process 1 of namespaces of
# its own (container interface of systemd.io), the network shared, with these block devices; ends with it. The kernel's
# settings are read-only there.
set -eu
machine=$1
shift
group=$(mount -t cgroup2 | awk '{print $3; exit}')/campanile-install-$$
mkdir "$group"
trap 'find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true' EXIT
# shellcheck disable=SC2016
sh -c 'echo $$ > "$1/cgroup.procs"; shift; exec "$@"' sh "$group" \
    unshare --mount --pid --fork --kill-child --uts --ipc --cgroup --propagation private sh -eu -c '
    machine=$1
    shift
    hostname campanile-test
    mount --rbind "$machine" "$machine"
    cd "$machine"
    mount -t proc proc proc
    mount --bind proc/sys proc/sys
    mount -o remount,bind,ro proc/sys
    mount -t sysfs sys sys
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    mount -o remount,bind,ro sys
    mount -t tmpfs -o mode=755 run run
    mount -t tmpfs -o mode=755 dev dev
    mkdir dev/shm dev/pts
    mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
    set -- null 1 3 zero 1 5 full 1 7 random 1 8 urandom 1 9 tty 5 0 "$@"
    while [ $# -gt 0 ]; do
        case "$1" in sd* | loop*) mknod "dev/$1" b "$2" "$3" ;; *) mknod -m 666 "dev/$1" c "$2" "$3" ;; esac
        shift 3
    done
    mkdir -p old
    pivot_root . old
    umount -l old
    rmdir old
    exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --show-status=false --unit=multi-user.target
' sh "$machine" "$@" </dev/null
