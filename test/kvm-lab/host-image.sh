#!/usr/bin/env bash
# Makes the lab host's files, in two steps because the first is slow and rarely changes. Needs root.
#   host-image.sh packages OUT_DIR                 OUT_DIR/root.tar, OUT_DIR/kernel.deb: from Debian's archive
#   host-image.sh image OUT_DIR PACKAGES_DIR       OUT_DIR/vmlinuz, OUT_DIR/initramfs, OUT_DIR/root.ext4
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
step=${1:?usage: host-image.sh packages|image OUT_DIR [PACKAGES_DIR]} out=$2
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Debian's cloud kernel has KVM and virtio and few drivers besides. Its meta package names the current one.
packages() {
  local include
  include=$(sed '/^#/d' "$here/host/packages" | tr -s ' \n' ',')
  # shellcheck disable=SC2016 # $1 and $APT_CONFIG are mmdebstrap's
  mmdebstrap --quiet --mode=root --variant=minbase --include="${include%,}" \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='cd "$1/tmp" && export APT_CONFIG=$MMDEBSTRAP_APT_CONFIG &&
      kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n "s/.*Depends: \(linux-image-[0-9].*\)/\1/p" | head -1) &&
      apt-get -qq download "$kernel" && mv linux-image-*.deb '"$work"'/kernel.deb' \
    bookworm "$out/root.tar"
  mv "$work/kernel.deb" "$out/kernel.deb"
}

image() { # PACKAGES_DIR
  local root=$work/root initramfs=$work/initramfs modules version
  mkdir -p "$root" "$initramfs"/{dev,root,modules} "$work/kernel"
  tar -C "$root" --exclude='./dev/*' -xf "$1/root.tar"
  dpkg-deb -x "$1/kernel.deb" "$work/kernel"
  modules=$(echo "$work"/kernel/lib/modules/*)
  version=${modules##*/}

  mkdir -p "$root"/{lab,project,carried,scratch,cache,usr/lib/modules}
  rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*
  cp -a "$modules" "$root/usr/lib/modules/"
  rm -rf "$root/usr/lib/modules/$version/kernel/drivers"/{gpu,infiniband,media,scsi,usb,hid,net/ethernet}
  chroot "$root" /sbin/depmod "$version"
  install "$here"/host/{boot,agent,heartbeat,begin} "$root/lab/"
  install -m 644 "$here"/host/{port,modules} "$root/lab/"
  install -m 644 "$here/host/inittab" "$root/etc/inittab"
  ln -sf /bin/busybox "$root/sbin/init"
  printf '127.0.0.1 localhost lab-host\n::1 localhost\n' >"$root/etc/hosts"
  rm -f "$root/etc/resolv.conf"

  install "$root/bin/busybox" "$initramfs/busybox"
  install "$here/host/early-init" "$initramfs/init"
  sed '/^#/d' "$here/host/modules" | head -1 | tr ' ' '\n' >"$initramfs/order"
  while read -r name; do
    find "$modules" -name "$name.ko" -exec cp {} "$initramfs/modules/" \;
    # Some are built in with some kernels.
    [[ -f $initramfs/modules/$name.ko ]] || sed -i "/^$name\$/d" "$initramfs/order"
  done < <(cat "$initramfs/order")
  (cd "$initramfs" && find . -print0 | cpio --quiet --null --create --format=newc) >"$out/initramfs"
  cp "$work"/kernel/boot/vmlinuz-* "$out/vmlinuz"

  truncate -s 1G "$out/root.ext4"
  mke2fs -q -F -t ext4 -O ^has_journal -E nodiscard -m 0 -d "$root" "$out/root.ext4"
}

case $step in
  packages) packages ;;
  image) image "$3" ;;
  *) echo "host-image.sh: no step $step" >&2; exit 2 ;;
esac
