#!/usr/bin/env bash
# Makes an OCI image archive of layers that are tar files, lowest first, with nothing but tar and sha256sum:
#   oci-archive.sh NAME:TAG OUT.tar ENTRYPOINT LAYER.tar...     ENTRYPOINT: JSON, e.g. ["/bin/sh"] or null
set -euo pipefail
name=$1 out=$2 entrypoint=$3
shift 3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/blobs/sha256"

# Moves or links a file to where its digest belongs, and prints `sha256:DIGEST SIZE`.
blob() {
  local digest
  digest=$(sha256sum "$1" | cut -d' ' -f1)
  cp --reflink=auto "$1" "$work/blobs/sha256/$digest"
  echo "sha256:$digest $(stat -c %s "$1")"
}
descriptor() { # MEDIA_TYPE DIGEST SIZE
  printf '{"mediaType":"application/vnd.oci.image.%s","digest":"%s","size":%s}' "$1" "$2" "$3"
}

layers= diff_ids=
for layer in "$@"; do
  read -r digest size < <(blob "$layer")
  layers+=${layers:+,}$(descriptor layer.v1.tar "$digest" "$size")
  diff_ids+="${diff_ids:+,}\"$digest\""
done
cat >"$work/config" <<CONFIG
{"created":"1970-01-01T00:00:00Z","architecture":"$(dpkg --print-architecture)","os":"linux",
 "config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Entrypoint":$entrypoint},
 "rootfs":{"type":"layers","diff_ids":[$diff_ids]}}
CONFIG
read -r digest size < <(blob "$work/config")
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":%s,"layers":[%s]}' \
  "$(descriptor config.v1+json "$digest" "$size")" "$layers" >"$work/manifest"
read -r digest size < <(blob "$work/manifest")
cat >"$work/index.json" <<INDEX
{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"$digest","size":$size,
 "annotations":{"io.containerd.image.name":"$name","org.opencontainers.image.ref.name":"${name##*:}"}}]}
INDEX
echo '{"imageLayoutVersion":"1.0.0"}' >"$work/oci-layout"
tar -C "$work" -cf "$out.part" oci-layout index.json blobs
mv "$out.part" "$out"
