#!/bin/sh
# Packs campanile-hub and campanile-edge for Debian: `package.sh FOLDER-OF-BINARIES FOLDER-FOR-PACKAGES`.
# The same commit and the same binaries make the same bytes. Needs dpkg-dev and binutils.
#   ARCHITECTURE  of the binaries; this machine's by default
#   STRIP         strip(1) of that architecture
#   COMPRESSION   of dpkg-deb(1), as xz or none
#   VERSION       of the packages; the workspace's by default
set -eu
binaries=$(realpath "$1")
mkdir -p "$2"
packages=$(realpath "$2")
cd "$(dirname "$0")/../.."

architecture=${ARCHITECTURE:-$(dpkg --print-architecture)}
version=${VERSION:-$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)}
# The commit's time; outside a checkout that of the list of changes.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)}
export SOURCE_DATE_EPOCH LC_ALL=C
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# put MODE SOURCE TARGET
put() { install -D -m "$1" "$2" "$root/$3"; }

pack() {
    what=$1
    name=campanile-$what
    root=$work/$name
    documents=usr/share/doc/$name

    put 755 "$binaries/$name" "usr/bin/$name"
    "${STRIP:-strip}" --strip-unneeded --remove-section=.comment "$root/usr/bin/$name"
    put 644 "hardware/systemd/$name.service" "lib/systemd/system/$name.service"
    put 644 "hardware/systemd/$name.sysusers" "usr/lib/sysusers.d/$name.conf"
    [ ! -f "hardware/systemd/$name.tmpfiles" ] || put 644 "hardware/systemd/$name.tmpfiles" "usr/lib/tmpfiles.d/$name.conf"

    # A town or a box that nobody named is not started by mistake: its name lasts.
    sed 's/^name = /# To be set before the first start.\n#: &/' "configs/$what.toml" > "$work/$what.toml"
    put 644 "$work/$what.toml" "etc/campanile/$what.toml"

    put 644 hardware/debian/copyright "$documents/copyright"
    put 644 LICENSE "$documents/LICENSE"
    gzip -9nc CHANGELOG.md > "$work/changelog.gz"
    put 644 "$work/changelog.gz" "$documents/changelog.gz"
    put 644 "configs/$what.toml" "$documents/examples/$what.toml"
    for page in install edge-check edge-disk; do put 644 "docs/$page.md" "$documents/$page.md"; done

    # dpkg-shlibdeps reads its sources' control file, and takes nothing from it.
    mkdir -p "$work/source/debian"
    : > "$work/source/debian/control"
    libraries=$(cd "$work/source" && dpkg-shlibdeps -O -e"$root/usr/bin/$name" 2> "$work/shlibdeps.log") ||
        { cat "$work/shlibdeps.log" >&2; exit 1; }
    libraries=${libraries#shlibs:Depends=}
    mkdir "$root/DEBIAN"
    sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@LIBRARIES@/$libraries/" \
        -e "s/@SIZE@/$(du -sk --apparent-size --exclude=DEBIAN "$root" | cut -f1)/" \
        "hardware/debian/$what.control" > "$root/DEBIAN/control"
    echo "/etc/campanile/$what.toml" > "$root/DEBIAN/conffiles"
    (cd "$root" && find usr lib -type f | sort | xargs md5sum) > "$root/DEBIAN/md5sums"
    for script in postinst prerm postrm; do install -m 755 "hardware/debian/$what.$script" "$root/DEBIAN/$script"; done
    # Whatever was made just now is of the commit's time.
    find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    dpkg-deb --root-owner-group -Z"${COMPRESSION:-xz}" --threads-max=1 --build "$root" \
        "$packages/${name}_${version}_$architecture.deb"
}

pack hub
pack edge
