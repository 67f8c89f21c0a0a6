#!/usr/bin/env bash
# Checks that libkrun and the C code around it compile for arm64. Needs, beside the build's own packages, on Debian 12:
#   dpkg --add-architecture arm64 && apt-get update
#   apt-get install cargo-web libstd-rust-web-dev:arm64 gcc-aarch64-linux-gnu libc6-dev-arm64-cross
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
target=aarch64-unknown-linux-gnu
compiler=aarch64-linux-gnu-gcc

# Debian's standard library for arm64 goes with Debian's compiler alone, a toolchain of rustup's with its own.
find_cargo() {
  local cargo libraries
  for cargo in "$("$here/find-cargo.sh" || true)" /usr/bin/cargo; do
    libraries=$("${cargo%/*}/rustc" --print target-libdir --target "$target" 2>/dev/null) || continue
    compgen -G "$libraries/libstd-*.rlib" >/dev/null && { echo "$cargo"; return; }
  done
  return 1
}
cargo=$(find_cargo) || { echo "check-arm64: no Rust toolchain here has the standard library of $target (see the head of $0)" >&2; exit 1; }
command -v "$compiler" >/dev/null || { echo "check-arm64: $compiler is missing (see the head of $0)" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export RUSTC=${cargo%/*}/rustc CC_aarch64_unknown_linux_gnu=$compiler
"$cargo" check --quiet --locked --manifest-path "$here/Cargo.toml" --target "$target" --target-dir "$work/target"

# libseccomp's headers are the same on every architecture, but lie among others that are not.
cp /usr/include/seccomp.h /usr/include/seccomp-syscalls.h "$work"
for source in "$here"/../launcher/*.c "$here"/../krun-vm/*.c "$here"/../src/*.c; do
  "$compiler" -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Werror -fsyntax-only -I"$here/../include" -idirafter "$work" "$source"
done
echo "check-arm64: ok"
