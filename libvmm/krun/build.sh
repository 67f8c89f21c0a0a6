#!/usr/bin/env bash
# Provides libkrun, 1.19 or later with disks and network, for the VMM bulkhead-krun.
#
#   build.sh OUT_DIR
#
# Leaves OUT_DIR/libkrun.so: a link to this system's library where it is new enough, else built from the published crate
# (Cargo.lock pins it) and cached outside the checkout by a hash of its inputs. Without a Rust toolchain, or without the
# crates, there is none afterwards: that is said, and the build goes on, for the software driver needs no libkrun.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build.sh OUT_DIR}
cache_root=${BULKHEAD_BUILD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/bulkhead}/libkrun
mapfile -t needed < <(sed -n 's/^ *CALL(\([a-z0-9_]*\),.*/krun_\1/p' "$here/../krun-vm/krun.h")
((${#needed[@]} > 0)) || { echo 'libkrun: krun.h names no calls' >&2; exit 1; }

mkdir -p "$out"

without_libkrun() {
  rm -f "$out/libkrun.so"
  printf '\n*** libkrun: %s\n*** Bulkhead is built WITHOUT the libkrun driver: sandboxes run on the slower software driver.\n\n' "$1" >&2
  exit 0
}

# A system library counts when it exports what bulkhead-krun calls: distributions choose its features.
system_library() {
  command -v pkg-config >/dev/null && pkg-config --atleast-version=1.19 libkrun || return 1
  local path symbols
  path=$(pkg-config --variable=libdir libkrun)/libkrun.so.1
  symbols=$(nm -D --defined-only "$path" 2>/dev/null) || return 1
  for name in "${needed[@]}"; do grep -q " $name\$" <<<"$symbols" || return 1; done
  echo "$path"
}
if path=$(system_library); then
  ln -sfn "$path" "$out/libkrun.so"
  exit 0
fi

cargo=$("$here/find-cargo.sh") || without_libkrun 'no cargo of version 1.85 or later was found (Debian 12 has one in the package cargo-web).'
export RUSTC=${cargo%/*}/rustc # its own, not one that comes earlier in PATH
recipe=1 # raise when the steps below change what they produce
key=$( { cat "$here/Cargo.toml" "$here/Cargo.lock" "$here/src/lib.rs"; echo "$recipe $("$cargo" --version) $(uname -m)"; } | sha256sum | cut -c1-32)
cached=$cache_root/$key

install_from_cache() {
  cmp -s "$cached/libkrun.so" "$out/libkrun.so" || { cp "$cached/libkrun.so" "$out/.libkrun.tmp" && mv "$out/.libkrun.tmp" "$out/libkrun.so"; }
}

mkdir -p "$cache_root"
exec 9>"$cache_root/lock"
flock 9 # two checkouts building at once: the second waits and then copies
if [[ -f $cached/libkrun.so ]]; then
  install_from_cache
  exit 0
fi

echo "libkrun: building $(sed -n '/^name = "libkrun"/{n;s/version = "\(.*\)"/\1/p}' "$here/Cargo.lock") (about 4 CPU minutes, once; cached in $cached)"
manifest=$here/Cargo.toml
"$cargo" fetch --quiet --locked --manifest-path "$manifest" || without_libkrun 'its crates could not be fetched.'
work=$(mktemp -d "$cache_root/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
"$cargo" build --quiet --release --locked --offline --manifest-path "$manifest" --target-dir "$work/target"
built=$work/target/release/libbulkhead_libkrun.so
symbols=$(nm -D --defined-only "$built")
for name in "${needed[@]}"; do
  grep -q " $name\$" <<<"$symbols" || { echo "libkrun: $name is not exported" >&2; exit 1; }
done
mkdir -p "$work/done"
mv "$built" "$work/done/libkrun.so"
mv "$work/done" "$cached"
install_from_cache
