#!/usr/bin/env bash
# Runs the tests: unit (no root, no VM), e2e (real VMs, real registry), all, soak (the long campaigns).
set -euo pipefail
cd "$(dirname "$0")/.."
node=node_modules/.bin/node
what=${1:?usage: tools/test.sh unit|e2e|all|soak}

flags=(--disable-warning=ExperimentalWarning --test)
# Node's default leaves one processor idle, of two.
at_once=$(nproc)

run_unit() {
  make -C libvmm test
  make -C guest test
  "$node" "${flags[@]}" --test-concurrency="$at_once" 'src/**/*.test.ts' 'tools/**/*.test.ts' 'monitoring/**/*.test.ts'
}

# Two files of end-to-end tests at once: one boots VMs while the other waits. What compares figures with a clock runs alone.
run_e2e() {
  local files=() alone=(test/e2e/monitoring.test.ts test/e2e/scale.test.ts)
  mapfile -t files < <(printf '%s\n' test/e2e/*.test.ts | grep -vxF "$(printf '%s\n' "${alone[@]}")")
  tools/as-root.sh "$node" "${flags[@]}" --test-concurrency=2 "${files[@]}"
  tools/as-root.sh "$node" "${flags[@]}" --test-concurrency=1 "${alone[@]}"
}

# Each parser of hostile bytes for FUZZ_SECONDS, those in C and those in TypeScript.
run_fuzz() {
  export FUZZ_SECONDS=${FUZZ_SECONDS:-300}
  make -C libvmm fuzz SECONDS_EACH="$FUZZ_SECONDS"
  make -C guest test FUZZ_SECONDS="$FUZZ_SECONDS"
  BULKHEAD_SOAK=1 "$node" "${flags[@]}" 'src/**/fuzz.test.ts'
}

# The suites that need a whole cluster and a KVM host of their own, side by side: each waits much for itself. A machine that can have
# neither says so loudly, with exit 3, and goes on: the rest has been tested.
run_cluster_and_kvm() {
  local log cluster of_cluster=0 of_kvm=0
  log=$(mktemp)
  tools/test-cluster.sh >"$log" 2>&1 &
  cluster=$!
  # shellcheck disable=SC2064 # these are meant
  trap "kill $cluster 2>/dev/null; rm -f '$log'" EXIT
  tools/test-kvm.sh || of_kvm=$?
  wait "$cluster" || of_cluster=$?
  cat "$log"
  ((of_kvm == 0 || of_kvm == 3)) || return "$of_kvm"
  ((of_cluster == 0 || of_cluster == 3)) || return "$of_cluster"
}

case $what in
  unit) run_unit ;;
  e2e) run_e2e ;;
  # Not joined by &&: in what stands before one, bash goes on after a command that failed.
  all)
    run_unit
    run_e2e
    run_cluster_and_kvm
    ;;
  soak)
    run_fuzz
    BULKHEAD_SOAK=1 run_e2e
    tools/test-kvm.sh --soak
    ;;
  *) echo "tools/test.sh: unknown suite $what" >&2; exit 2 ;;
esac
