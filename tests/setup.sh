#!/bin/sh
# Makes a Debian 12 machine ready: `setup.sh demo`, `setup.sh deb`, `setup.sh test`, `setup.sh bench` or `setup.sh score`.
# Installs only what is missing, starts no service, asks nothing. Exit 69: it cannot, and says what to type.
set -eu
cd "$(dirname "$0")/.."

build="gcc libc6-dev pkg-config libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libgstrtspserver-1.0-dev"
run="gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-libav"
camera="gstreamer1.0-plugins-ugly libgstrtspserver-1.0-0"
pack="dpkg-dev binutils"
test="ffmpeg libfaketime systemd"
case "${1:-}" in
demo) packages="$build $run $camera" ;;
deb) packages="$build $pack" ;;
test) packages="$build $run $camera $pack $test" ;;
bench) packages="$build $run $camera ffmpeg gstreamer1.0-tools motion python3-venv" ;;
score) packages="$build $run $camera python3 python3-venv" ;;
*) echo "setup.sh: say demo, deb, test, bench or score" >&2; exit 64 ;;
esac

fail() { echo "setup.sh: $1" >&2; exit "${2:-69}"; }

# Rust: no rust-toolchain.toml, because rustup would dial out.
command -v cargo >/dev/null || fail "no cargo on PATH; install a Rust toolchain of at least $(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)"
want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
have=$(rustc --version | awk '{print $2}')
oldest=$(printf '%s\n%s\n' "$want" "$have" | sort -V | head -n 1)
[ "$oldest" = "$want" ] || fail "Rust $have is too old: Campanile needs $want or newer (rustup update stable)"

# A build takes about 4 GB of disk and 2 GB of memory; said before it starts.
mkdir -p target
free_mb=$(df -Pm target | awk 'NR == 2 {print $4}')
built=$(du -sm target | awk '{print $1}')
[ $((free_mb + built)) -ge 6000 ] || fail "$free_mb MB free where target/ lies; building and running needs 6000 MB (they lie in the project folder)"
memory_mb=$(awk '/^MemAvailable/ {print int($2 / 1024)}' /proc/meminfo)
[ "$memory_mb" -ge 1800 ] || fail "$memory_mb MB of memory available; building needs 1800 MB"

# The detectors that ours is scored beside, in a folder of their own.
peers() {
    [ "$1" = score ] || return 0
    peers=target/score/python
    "$peers/bin/python" -c 'import cv2, numpy' 2>/dev/null && return 0
    echo "setup.sh: installing opencv-python-headless and numpy in $peers"
    python3 -m venv --clear "$peers" || fail "python3 makes no environment"
    "$peers/bin/pip" --quiet --disable-pip-version-check install opencv-python-headless==4.12.0.88 numpy==2.2.6 ||
        fail "OpenCV for Python cannot be installed"
}

missing=
for package in $packages; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || { peers "$1"; exit 0; }

install="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || { [ -t 0 ] && sudo -v; }; }; then
    as_root=sudo
else
    fail "packages are missing and neither root nor sudo is at hand; as root, type:
  apt-get update && $install"
fi

# What is installed must not start a service: invoke-rc.d and deb-systemd-invoke both ask this file.
policy=/usr/sbin/policy-rc.d
remove_policy=:
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
    remove_policy="$as_root rm -f $policy"
fi
trap '$remove_policy' EXIT
trap 'exit 130' INT TERM

echo "setup.sh: installing$missing"
$as_root env DEBIAN_FRONTEND=noninteractive apt-get -q update
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive $install
peers "$1"
