#!/usr/bin/env bash
# Starts a real Kubernetes cluster on this machine alone, as root: each node is a set of fresh net, pid, mount, uts and ipc
# namespaces in which containerd, kubelet and kube-proxy run; node0 has the control plane too. No uplink, no registry.
#   up.sh DIR      DIR gets kubeconfig (for use inside a node: in-node.sh), kubeconfig.outside, logs/, nodeI.pid
#   KC_BIN         folder that programs/build.sh filled
#   KC_IMAGES      OCI image archives that every node imports, pause first
#   KC_NODES       number of nodes (1)
#   KC_PORT        loopback port of this machine that leads to the API server (none)
#   KC_PROXY       nftables, iptables or none (nftables)
#   KC_APISERVER_ARGS, KC_KUBELET_ARGS    more arguments of those programs
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
DIR=$(mkdir -p "$1" && cd "$1" && pwd)
: "${KC_BIN:?set KC_BIN}" "${KC_PROXY:=nftables}" "${KC_PORT:=}" "${KC_NODES:=1}"
KC_BIN=$(cd "$KC_BIN" && pwd)
export KC_BIN KC_PROXY KC_NODES KC_DIR=$DIR
export KC_IMAGES="${KC_IMAGES:-$(echo "$DIR"/images/*.tar)}"
for f in $KC_IMAGES; do [ -s "$f" ] || { echo "no image archive $f (set KC_IMAGES)"; exit 1; }; done
KC_IMAGES=$(realpath $KC_IMAGES | tr '\n' ' ')
export KC_NAME=${KC_NAME:-kc-$(printf %s "$DIR" | cksum | cut -d' ' -f1)}   # cgroup name
export KC_NET=10.213.0 KC_IP=10.213.0.10 KC_PODS=10.244 KC_SVC_NET=10.96.0.0/16   # node i: KC_NET.(10+i), pods KC_PODS.i.0/24
[ -s "$DIR/node0.pid" ] && kill -0 "$(cat "$DIR/node0.pid")" 2>/dev/null && { echo "already up"; exit 1; }
for b in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
  [ -x "$KC_BIN/$b" ] || { echo "missing $KC_BIN/$b"; exit 1; }; done
for b in containerd ctr runc ip nsenter unshare openssl; do command -v $b >/dev/null || { echo "missing $b"; exit 1; }; done
t0=$(date +%s.%N); el() { awk -v a="$t0" -v b="$(date +%s.%N)" 'BEGIN{printf "%.1f", b-a}'; }
rm -rf "$DIR/state" "$DIR/logs"; mkdir -p "$DIR"/{pki,logs,state,images}
echo "$KC_NAME" > "$DIR/name"

# --- keys and kubeconfigs -------------------------------------------------------------------
P=$DIR/pki; cd "$P"
if [ "$(cat done 2>/dev/null)" != "$KC_NODES" ]; then
  key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }
  ca()  { key $1.key; openssl req -x509 -new -key $1.key -days 3650 -subj "/CN=$2" -out $1.crt \
            -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,digitalSignature; }
  cert() { # ca file subject eku san
    key $2.key; openssl req -new -key $2.key -subj "$3" -out $2.csr
    printf 'extendedKeyUsage=%s\nkeyUsage=critical,digitalSignature\n%s\n' "$4" "${5:+subjectAltName=$5}" > $2.ext
    openssl x509 -req -in $2.csr -CA $1.crt -CAkey $1.key -CAcreateserial -days 3650 -extfile $2.ext -out $2.crt 2>/dev/null; rm $2.csr $2.ext; }
  ca ca kc-ca; ca front-proxy-ca kc-front-proxy-ca
  cert ca apiserver /CN=kube-apiserver serverAuth \
    "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,DNS:localhost,IP:127.0.0.1,IP:$KC_IP,IP:10.96.0.1"
  cert ca apiserver-kubelet /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
  cert front-proxy-ca front-proxy /CN=front-proxy-client clientAuth
  cert ca admin /O=system:masters/CN=admin clientAuth
    cert ca kcm /CN=system:kube-controller-manager clientAuth
  cert ca scheduler /CN=system:kube-scheduler clientAuth
  cert ca proxy /CN=system:kube-proxy clientAuth
  for i in $(seq 0 $((KC_NODES-1))); do
    cert ca kubelet$i /O=system:nodes/CN=system:node:node$i clientAuth
    cert ca kubelet-server$i /O=system:nodes/CN=system:node:node$i serverAuth "DNS:node$i,IP:$KC_NET.$((10+i)),IP:127.0.0.1"
  done
  openssl genrsa -out sa.key 2048 2>/dev/null; openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null
  echo "$KC_NODES" > done
fi
kcfg() { # file certname server
cat > "$1" <<K
apiVersion: v1
kind: Config
clusters: [{name: kc, cluster: {server: "$3", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: u, user: {client-certificate-data: $(base64 -w0 $2.crt), client-key-data: $(base64 -w0 $2.key)}}]
contexts: [{name: kc, context: {cluster: kc, user: u}}]
current-context: kc
K
}
for c in kcm scheduler; do kcfg $c.conf $c https://127.0.0.1:6443; done
kcfg proxy.conf proxy https://$KC_IP:6443
for i in $(seq 0 $((KC_NODES-1))); do kcfg kubelet$i.conf kubelet$i https://$KC_IP:6443; done
kcfg "$DIR/kubeconfig" admin https://127.0.0.1:6443
cd "$DIR"; echo "keys $(el)s"

# --- the nodes: own cgroup subtree, own namespaces ---------------------------------------------
node() { # index
  local i=$1 c d n up
  for c in /sys/fs/cgroup/*/; do
    [ -e "$c/cgroup.procs" ] || continue
    mkdir -p "$c/$KC_NAME/node$i/daemons"
    if [ -e "$c/cpuset.cpus" ]; then for d in "$KC_NAME" "$KC_NAME/node$i" "$KC_NAME/node$i/daemons"; do
      cat "$c/cpuset.cpus" > "$c/$d/cpuset.cpus"; cat "$c/cpuset.mems" > "$c/$d/cpuset.mems"; done; fi
  done
  KC_I=$i setsid unshare --net --mount --uts --ipc --pid --fork --kill-child --mount-proc \
    bash "$here/node.sh" >"$DIR/logs/node$i-init.log" 2>&1 </dev/null &
  up=$!; echo $up > "$DIR/unshare$i.pid"; n=
  for _ in $(seq 100); do n=$(pgrep -P $up || true); [ -n "$n" ] && break; sleep 0.05; done
  echo "$n" > "$DIR/node$i.pid"
}
for i in $(seq 0 $((KC_NODES-1))); do node $i; done
n0() { nsenter -t "$(cat "$DIR/node0.pid")" -n "$@"; }
for _ in $(seq 100); do n0 ip link show kcbr >/dev/null 2>&1 && break; sleep 0.05; done
for i in $(seq 1 $((KC_NODES-1))); do # one veth per further node, into node0's bridge
  n0 ip link add vn$i type veth peer name eth0 netns "$(cat "$DIR/node$i.pid")"; n0 ip link set vn$i master kcbr up
done
if [ -n "$KC_PORT" ]; then # loopback port outside -> unix socket in DIR -> API server inside (needs socat)
  setsid socat TCP-LISTEN:$KC_PORT,bind=127.0.0.1,fork,reuseaddr UNIX-CONNECT:"$DIR/state/api.sock" >"$DIR/logs/socat.log" 2>&1 </dev/null &
  echo $! > "$DIR/socat.pid"; sed "s#127.0.0.1:6443#127.0.0.1:$KC_PORT#" kubeconfig > kubeconfig.outside
fi
k() { "$here/in-node.sh" "$DIR" "$KC_BIN/kubectl" "$@"; }
w() { # what seconds command...
  local what=$1 lim=$2; shift 2
  for _ in $(seq $((lim*5))); do
    if "$@" >/dev/null 2>&1; then echo "$what $(el)s"; return 0; fi
    kill -0 "$(cat "$DIR/node0.pid")" 2>/dev/null || { echo "node0 died"; tail -5 "$DIR"/logs/*init.log; return 1; }; sleep 0.2; done
  echo "timeout: $what"; return 1; }
ready() { [ "$(k get node "$1" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}{.spec.taints}')" = True ]; }
w "apiserver ready" 60 k get --raw /readyz
for i in $(seq 0 $((KC_NODES-1))); do
  w "node$i images imported" 120 test -e "$DIR/state/node$i/images.done"; w "node$i Ready" 90 ready node$i; done
w "default ServiceAccount" 30 k -n default get sa default
