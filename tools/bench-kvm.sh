#!/usr/bin/env bash
# Measures libkrun's sandboxes against a bare libkrun VM and a peer, in the KVM lab: tools/bench-kvm.sh [COUNT] [--json].
# The peer is fetched from the npm registry the first time.
set -euo pipefail
cd "$(dirname "$0")/.."
echo "machine: $(nproc) x $(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -1), Linux $(uname -r)," \
  "load $(cut -d' ' -f1 /proc/loadavg); KVM emulated by $(qemu-system-x86_64 --version | head -1)" >&2
tools/as-root.sh node_modules/.bin/node --disable-warning=ExperimentalWarning bench/kvm.ts "$@"
