#!/usr/bin/env bash
# Builds the guest kernel from Debian's maintained, unpatched linux-source-6.1.
#
#   build.sh OUT_DIR
#
# Leaves OUT_DIR/vmlinux (stripped ELF with a PVH note: QEMU and libkrun both boot it as it is),
# OUT_DIR/config and OUT_DIR/SOURCE (what it was built from; the GPL wants it shipped beside it).
# The result is cached outside the checkout by a hash of its inputs, so a second clone copies it.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build.sh OUT_DIR}
cache_root=${BULKHEAD_BUILD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/bulkhead}/kernel
tarball=/usr/src/linux-source-6.1.tar.xz

[[ -f $tarball ]] || { echo "guest kernel: $tarball is missing; install the package linux-source-6.1" >&2; exit 1; }
version=$(dpkg-query -W -f '${Version}' linux-source-6.1)
recipe=1 # raise when the steps below change what they produce
key=$( { sed '/^#/d; /^$/d' "$here/options"; echo "$version $recipe $(gcc -dumpfullversion) $(uname -m)"; } | sha256sum | cut -c1-32)
cached=$cache_root/$key

install_from_cache() {
  mkdir -p "$out"
  for f in vmlinux config SOURCE; do
    cmp -s "$cached/$f" "$out/$f" || { cp "$cached/$f" "$out/.$f.tmp" && mv "$out/.$f.tmp" "$out/$f"; }
  done
}

mkdir -p "$cache_root"
exec 9>"$cache_root/lock"
flock 9 # two checkouts building at once: the second waits and then copies
if [[ -f $cached/vmlinux ]]; then
  install_from_cache
  exit 0
fi

echo "guest kernel: building linux-source-6.1 $version (about 15 CPU minutes, once; cached in $cached)"
work=$(mktemp -d "$cache_root/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
tar -xf "$tarball" -C "$work"
src=$work/linux-source-6.1

grep -v '^#' "$here/options" | tr ' ' '\n' | sed '/^$/d; s/^/CONFIG_/; /=/!s/$/=y/' >"$work/fragment"
export KBUILD_BUILD_TIMESTAMP='1970-01-01' KBUILD_BUILD_USER=bulkhead KBUILD_BUILD_HOST=bulkhead
jobs=$(nproc)
make -s -C "$src" O="$work/o" KCONFIG_ALLCONFIG="$work/fragment" allnoconfig

# Kconfig drops unknown or unmet symbols without a word, so every line asked for is compared.
missing=$(grep -vxFf "$work/o/.config" "$work/fragment" || true)
if [[ -n $missing ]]; then
  printf 'guest kernel: options that did not survive configuration:\n%s\n' "$missing" >&2
  exit 1
fi

make -s -C "$src" O="$work/o" -j"$jobs" vmlinux
strip -o "$work/vmlinux" "$work/o/vmlinux"

mkdir -p "$work/done"
mv "$work/vmlinux" "$work/done/vmlinux"
cp "$work/o/.config" "$work/done/config"
printf 'source: Debian package linux-source-6.1 %s, unpatched\nconfiguration: the file "config" beside this one\nlicence: GPL-2.0\n' "$version" >"$work/done/SOURCE"
mv "$work/done" "$cached"
install_from_cache
