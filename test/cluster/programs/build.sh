#!/usr/bin/env bash
# Builds the programs of a real cluster from the Go module proxy: etcd, those of Kubernetes in one binary, helm, and a checker that
# is the kstatus library. Each is made once and kept in the build cache by the hash of its sources and lock file.
#   build.sh OUT    links what it made into OUT
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build.sh OUT}
cache=${BULKHEAD_BUILD_CACHE:-$HOME/.cache/bulkhead}/cluster
export GOFLAGS=-mod=mod CGO_ENABLED=0
version=v1.35.4
mkdir -p "$out" "$cache"
out=$(cd "$out" && pwd)

command -v go >/dev/null || { echo "test cluster: go is missing" >&2; exit 3; }

# What the programs of Kubernetes say is their version; a chart's kubeVersion is held against it.
stamps="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  stamps+=" -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=35 -X $package.gitTreeState=clean"
done

# MODULE PACKAGE FLAGS: builds PACKAGE of MODULE into the cache, and prints its path.
program() {
  local module=$1 package=$2 flags=$3 hash file
  hash=$( (cd "$here/$module" && cat go.mod go.sum ./*.go 2>/dev/null; echo "$flags"; go version) | sha256sum | cut -c1-32)
  file=$cache/$module-$hash
  if [[ ! -x $file ]]; then
    echo "test cluster: building $module (once; kept in $cache)" >&2
    (cd "$here/$module" && go build -ldflags "$flags" -o "$file.part" "$package")
    mv "$file.part" "$file"
  fi
  echo "$file"
}

kube=$(program kube . "$stamps")
for name in kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl; do ln -sfn "$kube" "$out/$name"; done
etcd=$(program etcd . "-s -w")
ln -sfn "$etcd" "$out/etcd"
kstatus=$(program kstatus . "-s -w")
ln -sfn "$kstatus" "$out/kstatus"
helm=$(program helm helm.sh/helm/v3/cmd/helm "-s -w")
ln -sfn "$helm" "$out/helm"

# The image in which a Pod's namespaces live; kubelet starts no Pod without it.
if [[ ! -s $out/pause.tar ]]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  source=$(cd "$here/kube" && go list -m -f '{{.Dir}}' k8s.io/kubernetes)/build/pause/linux/pause.c
  gcc -Os -static -s -DVERSION=test -o "$work/pause" "$source"
  tar -C "$work" -cf "$work/layer.tar" pause
  "$here/../../../tools/oci-archive.sh" localhost/pause:1 "$out/pause.tar" '["/pause"]' "$work/layer.tar"
fi
