#!/usr/bin/env bash
# Makes a one-layer OCI image archive of a folder with nothing but tar:
#   image.sh NAME:TAG FOLDER OUT.tar ['["/entrypoint","arg"]' [ENV=VALUE...]]
set -euo pipefail
name=$1 root=$2 out=$(realpath -m "$3") ep=${4:-null}; shift 3; shift || true
env=""; for e in PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"; do env="$env${env:+,}\"$e\""; done
w=$(mktemp -d); trap 'rm -rf "$w"' EXIT; mkdir -p "$w/blobs/sha256"
tar -C "$root" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --exclude=./proc/* --exclude=./sys/* -cf "$w/layer" .
put() { local s; s=$(sha256sum "$1" | cut -d' ' -f1); mv "$1" "$w/blobs/sha256/$s"; echo "$s"; }
sz() { stat -c %s "$w/blobs/sha256/$1"; }
l=$(put "$w/layer")
printf '{"created":"1970-01-01T00:00:00Z","architecture":"amd64","os":"linux","config":{"Env":[%s],"Entrypoint":%s},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' "$env" "$ep" "$l" > "$w/c"; c=$(put "$w/c")
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%s},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:%s","size":%s}]}' "$c" "$(sz $c)" "$l" "$(sz $l)" > "$w/m"; m=$(put "$w/m")
printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s,"annotations":{"io.containerd.image.name":"%s","org.opencontainers.image.ref.name":"%s"}}]}' "$m" "$(sz $m)" "$name" "${name##*:}" > "$w/index.json"
echo '{"imageLayoutVersion":"1.0.0"}' > "$w/oci-layout"
tar -C "$w" -cf "$out" oci-layout index.json blobs
