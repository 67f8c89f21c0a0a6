#!/usr/bin/env bash
# A guided tour: starts the daemon on manifests/, shows the sandboxes becoming Ready, runs a command in one, shows
# metrics, and stops cleanly. Everything lives in one state directory, which is removed at the end.
set -euo pipefail
cd "$(dirname "$0")/.."

if ((EUID != 0)); then
  echo "demo: starting VMs in their jails needs root; running the tour with sudo"
  exec sudo --preserve-env=BULKHEAD_BUILD_CACHE "$0" "$@"
fi

state=$(mktemp -d "${TMPDIR:-/tmp}/bulkhead-demo.XXXXXX")
export BULKHEAD_STATE_DIR=$state/state BULKHEAD_SOCKET=$state/bulkhead.sock
bulkhead=$PWD/bin/bulkhead
daemon_pid=

finish() {
  local code=$?
  trap - EXIT INT TERM
  if [[ -n $daemon_pid ]] && kill -0 "$daemon_pid" 2>/dev/null; then
    "$bulkhead" delete sandbox --all --timeout 60s >/dev/null 2>&1 || true
    kill -TERM "$daemon_pid" && wait "$daemon_pid" || true
  fi
  ((code == 0)) || { echo "demo: the daemon's log ends with:" >&2; tail -20 "$state/daemon.log" >&2 || true; }
  rm -rf "$state"
  exit "$code"
}
trap finish EXIT INT TERM

step() { printf '\n\033[1m==> %s\033[0m\n' "$*"; }
show() { printf '\033[2m$ %s\033[0m\n' "$*"; "$@"; }

step "The built-in image: busybox from Debian's package, made here without any network"
node_modules/.bin/node tools/builtin-image.ts "$state/busybox"

mkdir -p "$state/manifests" && cp manifests/*.yaml "$state/manifests/"

step "The daemon, watching a folder of YAML"
"$bulkhead" daemon --manifests "$state/manifests" --metrics-address 127.0.0.1:9464 >"$state/daemon.log" 2>&1 &
daemon_pid=$!
timeout 30 bash -c "until [[ -S $BULKHEAD_SOCKET ]] && kill -0 $daemon_pid; do sleep 0.1; done"
show "$bulkhead" image load "$state/busybox"

step "What the folder asks for, becoming real microVMs"
show "$bulkhead" wait sandbox/idle --for=condition=Ready --timeout 120s
show "$bulkhead" get sandboxes -o wide

step "A command inside one of them: its own kernel, its own root"
show "$bulkhead" exec idle -- uname -a
show "$bulkhead" exec idle -- cat /proc/meminfo | head -2

step "What its main process wrote"
show "$bulkhead" wait sandbox/counter --for=condition=Ready --timeout 120s
show "$bulkhead" logs counter --tail 3

step "Figures for Prometheus"
echo '$ curl http://127.0.0.1:9464/metrics | grep ^sandbox_'
node_modules/.bin/node -e "fetch('http://127.0.0.1:9464/metrics').then((r) => r.text()).then((t) => console.log(t.split('\n').filter((l) => /^sandbox_(info|cpu|memory_resident|status_phase.* 1$)/.test(l)).slice(0, 12).join('\n')))"

step "A file goes away, and so does its sandbox"
show rm "$state/manifests/idle.yaml"
show "$bulkhead" wait sandbox/idle --for=delete --timeout 60s
show "$bulkhead" get sandboxes

step "Done: stopping everything"
