#!/usr/bin/env bash
# Prints the path of a cargo that is new enough for libkrun's dependencies (rust-version in Cargo.toml); fails without one.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
minimum=$(sed -n 's/^rust-version = "\([0-9.]*\)".*/\1/p' "$here/Cargo.toml")
for cargo in $(type -ap cargo) "$HOME/.cargo/bin/cargo"; do
  version=$("$cargo" --version 2>/dev/null | cut -d' ' -f2) || continue
  if [[ $(printf '%s\n' "$minimum" "$version" | sort -V | head -1) == "$minimum" ]]; then
    echo "$cargo"
    exit 0
  fi
done
exit 1
