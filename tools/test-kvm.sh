#!/usr/bin/env bash
# Runs the end-to-end tests with libkrun in the KVM lab: tools/test-kvm.sh [FILE...]. With --soak [STARTS [KILLS]] instead a
# hundred starts, six at once, and sixty kills at random moments. Status 3 when this machine cannot.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly cannot=3 min_memory_kib=$((6 * 1024 * 1024))

refuse() {
  local line='############################################################'
  printf '%s\n# THE KVM LAB DID NOT RUN: %s.\n# Nothing was tested with libkrun.\n%s\n' "$line" "$1" "$line" >&2
  exit "$cannot"
}

[[ $(uname -m) == x86_64 ]] || refuse "it emulates an x86_64 host, which is useless on $(uname -m)"
command -v qemu-system-x86_64 >/dev/null || refuse 'qemu-system-x86_64 is missing (tools/setup.sh installs it)'
[[ -f build/libvmm/libkrun.so ]] || refuse 'this build has no libkrun (build/libvmm/libkrun.so)'
memory=$(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo)
((memory >= min_memory_kib)) || refuse "it needs 6 GiB of free memory, and there are $((memory / 1024)) MiB"
((EUID == 0)) || command -v sudo >/dev/null || refuse 'its image can be made by root only, and there is no sudo'

# There is no compiler in the lab.
make -C libvmm ../build/libvmm/{jail,udp,frame}-probe
program=suite
if [[ ${1:-} == --soak ]]; then
  program=soak
  shift
fi
tools/as-root.sh node_modules/.bin/node --disable-warning=ExperimentalWarning "test/kvm-lab/$program.ts" "$@"
