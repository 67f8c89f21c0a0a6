#!/usr/bin/env bash
# Runs the benches one after another, or those that are named: tools/bench.sh [NAME...]. Real VMs, so as root.
set -euo pipefail
cd "$(dirname "$0")/.."
node=node_modules/.bin/node

all=(start exec sdk image scrape reconcile store-and-queue daemon policy network volumes)
# Only where it is named, as it builds Kubernetes.
named=(cluster)
(($#)) || set -- "${all[@]}"
for name in "$@"; do
  [[ " ${all[*]} ${named[*]} " == *" $name "* ]] || { echo "tools/bench.sh: no bench $name; there are: ${all[*]} ${named[*]}" >&2; exit 2; }
done

echo "machine: $(nproc) x $(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -1), Linux $(uname -r)," \
  "load $(cut -d' ' -f1 /proc/loadavg), VMs without hardware virtualisation"
failed=()
for name in "$@"; do
  printf '\n== %s\n' "$name"
  [[ $name != cluster ]] || test/cluster/programs/build.sh build/cluster
  # --expose-gc as in bin/bulkhead: the daemon gives memory back when it rests.
  tools/as-root.sh "$node" --disable-warning=ExperimentalWarning --expose-gc "bench/$name.ts" || failed+=("$name")
done
if ((${#failed[@]})); then
  echo "tools/bench.sh: failed: ${failed[*]}" >&2
  exit 1
fi
