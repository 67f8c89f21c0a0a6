#!/usr/bin/env bash
# Makes the image that helm/bulkhead runs, as an OCI archive, without a container engine:
#   container-image.sh OUT.tar [NAME:TAG]      after `make build`; needs root and mmdebstrap
# Beside it OUT.sbom.json lists what is in it, as CycloneDX. The layer of Debian packages is slow to make and kept in the build
# cache by the list of packages and the month, so that it is made anew with Debian's updates.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${1:?usage: container-image.sh OUT.tar [NAME:TAG]}")
version=$(node_modules/.bin/node -p 'JSON.parse(fs.readFileSync("package.json")).version')
name=${2:-localhost/bulkhead:$version}
cache=${BULKHEAD_BUILD_CACHE:-$HOME/.cache/bulkhead}/container
mkdir -p "$cache" "$(dirname "$out")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What `bulkhead node` and `bulkhead controller` need of Debian at run time.
packages=ca-certificates,e2fsprogs,libnftables1,libseccomp2,libcap2,qemu-system-x86
base=$cache/base-$( (echo "$packages"; date +%Y-%m) | sha256sum | cut -c1-16).tar
if [[ ! -s $base ]]; then
  echo "container image: making the layer of Debian packages (kept in $cache)" >&2
  rm -rf "$base.part"
  mmdebstrap --quiet --mode=root --format=tar --variant=minbase --include="$packages" \
    --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/etc/apt/sources.list* "$1"/etc/resolv.conf' \
    bookworm "$base.part"
  mv "$base.part" "$base"
fi

# What goes into the image; the same again needs no second making.
inputs=$(find bin src build/guest build/libvmm package-lock.json tools/container-image.sh -type f -print0 | sort -z |
  xargs -0 sha256sum | (cat; echo "$name $base") | sha256sum | cut -d' ' -f1)
[[ ! -s $out || $(cat "$out.inputs" 2>/dev/null) != "$inputs" ]] || exit 0

root=$work/root/opt/bulkhead
mkdir -p "$root/build" "$work/root/usr/local/bin"
cp -a bin src package.json LICENSE README.md "$root/"
find "$root/src" \( -name '*.test.ts' -o -name testing -o -name fixtures \) -prune -exec rm -rf {} +
cp -aL build/guest build/libvmm "$root/build/"
rm -rf "$root"/build/*/{test,tests,fuzz,obj}
cp package.json package-lock.json .npmrc "$work/"
(cd "$work" && npm ci --omit=dev --no-audit --no-fund --loglevel=error)
mv "$work/node_modules" "$root/node_modules"
ln -s /opt/bulkhead/bin/bulkhead "$work/root/usr/local/bin/bulkhead"
chown -R 0:0 "$work/root"
tar -C "$work/root" --sort=name --mtime=@0 -cf "$work/project.tar" .

(cd "$work" && npm sbom --omit=dev --sbom-format=cyclonedx --package-lock-only) >"$work/npm.json"
tar -xf "$base" -C "$work" ./var/lib/dpkg/status
node_modules/.bin/node tools/software-bill.ts "$work/npm.json" "$work/var/lib/dpkg/status" >"${out%.tar}.sbom.json"
tools/oci-archive.sh "$name" "$out" '["/usr/local/bin/bulkhead"]' "$base" "$work/project.tar"
echo "$inputs" >"$out.inputs"
