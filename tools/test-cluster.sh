#!/usr/bin/env bash
# Tests in a real Kubernetes cluster: all of them, or the files that are named. Exit 3: this machine cannot build one.
set -euo pipefail
cd "$(dirname "$0")/.."
node=node_modules/.bin/node
oldest_go=1.25

go_version=$(go env GOVERSION 2>/dev/null || true)
if [[ -z $go_version || $(printf '%s\n' "go$oldest_go" "$go_version" | sort -V | head -1) != "go$oldest_go" ]]; then
  echo "test-cluster: NOT RUN: Go $oldest_go or later is needed to build Kubernetes, and ${go_version:-none} is here" >&2
  exit 3
fi
test/cluster/programs/build.sh build/cluster
tools/as-root.sh tools/container-image.sh build/cluster/bulkhead.tar
files=("$@")
((${#files[@]})) || files=('test/cluster/**/*.test.ts')
tools/as-root.sh "$node" --disable-warning=ExperimentalWarning --test --test-concurrency=1 "${files[@]}"
