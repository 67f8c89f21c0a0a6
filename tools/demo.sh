#!/usr/bin/env bash
# A guided tour: starts a daemon on a folder, shows its sandboxes becoming Ready, runs a command in one, shows figures
# and an error, and stops cleanly. Everything lives in one temporary directory, which is removed at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
project=$PWD

if ((EUID != 0)); then
  echo "demo: starting VMs in their jails needs root; running the tour with sudo"
  exec "$project/tools/as-root.sh" "$project/tools/demo.sh" "$@"
fi

node=$project/node_modules/.bin/node
work=$(mktemp -d /tmp/bulkhead-demo.XXXXXX)
export BULKHEAD_STATE_DIR=$work/state BULKHEAD_SOCKET=$work/bulkhead.sock
unset BULKHEAD_NAMESPACE
export PATH=$project/bin:$PATH
daemon_pid=

# Without a daemon there is nobody to stop the VMs: the directory is only removed when they are gone.
finish() {
  local code=$?
  trap - EXIT
  trap '' INT TERM
  if ((code != 0)); then
    echo "demo: stopped early; the daemon's log ends with:" >&2
    tail -n 20 "$work/daemon.log" >&2 || true
  fi
  if [[ -n $daemon_pid ]]; then
    rm -f "$work"/manifests/*.yaml
    # Before its socket is there it has started nothing.
    if [[ -S $BULKHEAD_SOCKET ]] && kill -0 "$daemon_pid" 2>/dev/null &&
      ! bulkhead delete sandbox --all --timeout 60s >"$work/delete.log" 2>&1; then
      echo "demo: not everything could be stopped; what is left is under $work:" >&2
      cat "$work/delete.log" >&2
      kill -TERM "$daemon_pid"
      exit 1
    fi
    kill -TERM "$daemon_pid" 2>/dev/null || true
    wait "$daemon_pid" || true
  fi
  rm -rf "$work"
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step() { printf '\n\033[1m==> %s\033[0m\n' "$*"; }
show() { printf '\033[2m$ %s\033[0m\n' "$*"; "$@"; }

step "An image to run: Debian's busybox, packed here without any network"
"$node" tools/builtin-image.ts "$work/busybox.tar"

# 9464 is the daemon's default; another daemon may have it.
metrics=$("$node" -e '
  const listen = (port) => {
    const server = require("node:net").createServer();
    server.once("error", () => listen(0));
    server.listen(port, "127.0.0.1", () => {
      console.log(`127.0.0.1:${server.address().port}`);
      server.close();
    });
  };
  listen(9464);')

step "The daemon, watching a folder of YAML that is still empty"
mkdir "$work/manifests"
printf '\033[2m$ bulkhead daemon --manifests %s --metrics-address %s &\033[0m\n' "$work/manifests" "$metrics"
# In a session of its own, so that ^C ends the tour, and the tour the sandboxes, while the daemon is still there.
setsid "$project/bin/bulkhead" daemon --manifests "$work/manifests" --metrics-address "$metrics" >"$work/daemon.log" 2>&1 &
daemon_pid=$!
for ((tries = 0; ; tries++)); do
  [[ -S $BULKHEAD_SOCKET ]] && break
  kill -0 "$daemon_pid" 2>/dev/null || { echo "demo: the daemon ended at its start" >&2; exit 1; }
  ((tries < 300)) || { echo "demo: the daemon does not answer" >&2; exit 1; }
  sleep 0.1
done
show bulkhead image load "$work/busybox.tar"

step "Files arrive in the folder, and become real microVMs"
show cp manifests/counter.yaml manifests/idle.yaml manifests/once.yaml "$work/manifests/"
until bulkhead get sandbox idle counter once >/dev/null 2>&1; do sleep 0.1; done # the folder is read in a moment
show bulkhead wait sandbox/idle sandbox/counter --for=condition=Ready --timeout 120s
show bulkhead get sandboxes -o wide

step "A command inside one of them: its own kernel, its own root"
show bulkhead exec idle -- uname -a
show bulkhead exec idle -- df -h /

step "What the others did"
show bulkhead wait sandbox/once --for=condition=Finished --timeout 120s
show bulkhead logs once
show bulkhead logs counter --tail 3

step "Figures for Prometheus"
printf '\033[2m$ curl -s http://%s/metrics | grep -E ...\033[0m\n' "$metrics"
"$node" -e '
  const wanted = /^sandbox_(cpu_usage_seconds_total|memory_resident_bytes|status_phase.*} 1$)/;
  fetch(`http://${process.argv[1]}/metrics`)
    .then((answer) => answer.text())
    .then((text) => console.log(text.split("\n").filter((line) => wanted.test(line)).slice(0, 10).join("\n")));' "$metrics"

step "A mistake in a file: the last good version goes on, and the message says where and what"
show sed -i 's/memory:/memroy:/' "$work/manifests/idle.yaml"
show bulkhead validate -f "$work/manifests/idle.yaml" || true

step "A file goes away, and so does its sandbox"
show rm "$work/manifests/idle.yaml"
show bulkhead wait sandbox/idle --for=delete --timeout 60s
show bulkhead get sandboxes

step "Done: stopping everything and removing $work"
