#!/usr/bin/env bash
# Installs the system packages that are missing, and says which before it does: those that the build needs, and with `tests`
# those of the tests and benches too. Works as root and with sudo.
set -euo pipefail
with=${1:-build}

packages=(
  # guest kernel and agent
  build-essential linux-source-6.1 flex bison libelf-dev bc cpio xz-utils protobuf-compiler nanopb libnanopb-dev
  # libvmm and the launcher
  libseccomp-dev libcap-dev clang libclang-rt-14-dev clang-format
  # the software driver and disks
  qemu-system-x86 e2fsprogs
  # the gateway loads it to write its rules
  libnftables1
  # the built-in image
  busybox-static
  # node for npm
  npm
)
test_packages=(
  # the KVM lab's host
  mmdebstrap
  # images, their registry, and what the tests compare with
  debootstrap erofs-utils umoci skopeo docker-registry apache2-utils openssl attr acl libcap2-bin
  # what the tests of monitoring ask: Prometheus itself and promtool
  prometheus
  # what the nodes of the test cluster run
  containerd runc containernetworking-plugins socat conntrack
  # what our health check for Argo CD runs in
  lua5.1
  # what carries a namespace's connections beside the gateway in bench/network.ts
  passt slirp4netns
  # what emulates a program of the host beside a guest in bench/volumes.ts
  qemu-user
  # what the test of the guest kernel runs in a guest
  nftables iptables iproute2
)
# The tests start these themselves, on ports and in directories of their own.
services=(docker-registry prometheus prometheus-node-exporter containerd)
[[ $with != tests ]] || packages+=("${test_packages[@]}")

# Builds libkrun, where no newer Rust is installed. Without it the build leaves libkrun out and says so.
optional=()
"$(dirname "$0")/../libvmm/krun/find-cargo.sh" >/dev/null || optional+=(cargo-web)

missing=()
for package in "${packages[@]}"; do
  if [[ $package == npm ]] && command -v npm >/dev/null; then continue; fi
  [[ $(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null || true) == ii* ]] || missing+=("$package")
done
((${#missing[@]} + ${#optional[@]})) || exit 0

echo "setup: these Debian packages are missing and are installed now: ${missing[*]} ${optional[*]}"
as_root=$(dirname "$0")/as-root.sh
"$as_root" apt-get update -qq
install() {
  "$as_root" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}
# A package that was not there before must not bring a service that runs.
stop_services() {
  local service
  [[ -d /run/systemd/system ]] || return 0
  for service in "${services[@]}"; do
    [[ " ${missing[*]} " == *" $service "* || $service == prometheus-node-exporter ]] || continue
    "$as_root" systemctl disable --now --quiet "$service" 2>/dev/null || true
  done
}
((${#missing[@]} == 0)) || install "${missing[@]}"
[[ $with != tests ]] || stop_services
for package in "${optional[@]}"; do
  install "$package" || echo "setup: $package cannot be installed; the build goes on without what needs it" >&2
done
