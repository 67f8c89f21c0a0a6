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

# A machine that cannot emulate KVM says so loudly and goes on: the rest has been tested.
run_kvm() {
  local status=0
  tools/test-kvm.sh || status=$?
  ((status == 3)) || return "$status"
}

# The same for a machine without a Go that builds Kubernetes.
run_cluster() {
  local status=0
  tools/test-cluster.sh || status=$?
  ((status == 3)) || return "$status"
}

case $what in
  unit) run_unit ;;
  e2e) run_e2e ;;
  # Not joined by &&: in what stands before one, bash goes on after a command that failed.
  all)
    run_unit
    run_e2e
    run_cluster
    run_kvm
    ;;
  soak)
    run_fuzz
    BULKHEAD_SOAK=1 run_e2e
    tools/test-kvm.sh --soak
    ;;
  *) echo "tools/test.sh: unknown suite $what" >&2; exit 2 ;;
esac
