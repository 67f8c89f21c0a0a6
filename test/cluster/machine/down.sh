#!/usr/bin/env bash
# Stops the cluster of DIR: killing a node's PID 1 ends all of that node.
set -u
DIR=$(cd "$1" && pwd); name=$(cat "$DIR/name")
for f in "$DIR"/*.pid; do [ -s "$f" ] && kill -9 "$(cat "$f")" 2>/dev/null; rm -f "$f"; done
for _ in $(seq 50); do
  left=0
  for c in /sys/fs/cgroup/*/"$name"; do [ -d "$c" ] || continue
    find "$c" -depth -type d -exec rmdir {} + 2>/dev/null; [ -d "$c" ] && left=1; done
  [ $left = 0 ] && break; sleep 0.2
done
rm -rf "$DIR/state"
