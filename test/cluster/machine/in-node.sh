#!/usr/bin/env bash
# Runs a command inside a node of the cluster of DIR: in-node.sh DIR COMMAND... (KC_NODE: which one, 0).
set -eu
DIR=$(cd "$1" && pwd); shift
KUBECONFIG=$DIR/kubeconfig exec nsenter -t "$(cat "$DIR/node${KC_NODE:-0}.pid")" -m -n -p -u -i --wdns="$PWD" -- "$@"
