#!/usr/bin/env bash
# PID 1 of a node: makes its mounts and network, starts its daemons, and reaps orphans until it is killed. up.sh starts it.
set -eu
I=$KC_I N=node$KC_I G=$KC_NAME/node$KC_I IP=$KC_NET.$((10+KC_I))
S=$KC_DIR/state/$N P=$KC_DIR/pki L=$KC_DIR/logs
hostname "$N"
# join the node's cgroup in every hierarchy ("0" = the writer itself)
for c in /sys/fs/cgroup/*/; do [ -d "$c/$G/daemons" ] && echo 0 > "$c/$G/daemons/cgroup.procs" || true; done
# a sysfs that shows this network namespace, with the cgroup mounts put back on it
mkdir -p "$S"/{cg,containerd,kubelet,log-pods,log-containers,cni,etcd}
mount --rbind /sys/fs/cgroup "$S/cg"; mount -t sysfs sysfs /sys; mount --rbind "$S/cg" /sys/fs/cgroup; umount -l "$S/cg"
# usual paths, private contents
mount -t tmpfs tmpfs /run
mkdir -p /var/lib/kubelet /var/lib/containerd /var/lib/cni /var/log/pods /var/log/containers /etc/cni/net.d /run/netns
mount --bind "$S/kubelet" /var/lib/kubelet; mount --bind "$S/containerd" /var/lib/containerd
mount --bind "$S/cni" /var/lib/cni
mount --bind "$S/log-pods" /var/log/pods; mount --bind "$S/log-containers" /var/log/containers
mkdir -p "$S/netd"; mount --bind "$S/netd" /etc/cni/net.d
mkdir -p "$S/bulkhead" /var/lib/bulkhead; mount --bind "$S/bulkhead" /var/lib/bulkhead
# kubelet wants to set some machine-wide sysctls: show it the values it wants, leave the machine's alone
i=0; for v in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  i=$((i+1)); echo "${v#*=}" > /run/sysctl.$i; mount --bind /run/sysctl.$i "/proc/sys/${v%=*}"; done
mount --make-rshared /
# network: node0 holds a bridge (a veth pair inside gives it carrier); further nodes get an eth0 on it from up.sh
ip link set lo up
if [ "$I" = 0 ]; then
  ip link add kcbr type bridge; ip link add kcup type veth peer name kcup1
  ip link set kcup master kcbr up; ip link set kcup1 up; dev=kcbr
else
  dev=eth0; for _ in $(seq 200); do ip link show eth0 >/dev/null 2>&1 && break; sleep 0.05; done
fi
ip addr add "$IP/24" dev $dev; ip link set $dev up; ip route add default dev $dev
for j in $(seq 0 $((KC_NODES-1))); do [ $j = "$I" ] || ip route add $KC_PODS.$j.0/24 via $KC_NET.$((10+j)) dev $dev; done
sysctl -qw net.ipv4.ip_forward=1; sysctl -qw net.bridge.bridge-nf-call-iptables=1 || true
cat > /etc/cni/net.d/10-kc.conflist <<C
{"cniVersion":"1.0.0","name":"kc","plugins":[
 {"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":false,"hairpinMode":true,
  "ipam":{"type":"host-local","ranges":[[{"subnet":"$KC_PODS.$I.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}}]}
C
cat > "$S/containerd.toml" <<C
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "${KC_CNI:-/usr/lib/cni}"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "${KC_SNAPSHOTTER:-overlayfs}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
C
cat > "$S/kubelet.yaml" <<C
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $P/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $P/kubelet-server$I.crt
tlsPrivateKeyFile: $P/kubelet-server$I.key
cgroupDriver: cgroupfs
cgroupRoot: /$G
failCgroupV1: false
failSwapOn: false
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
resolvConf: $S/resolv.conf
clusterDomain: cluster.local
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
nodeStatusUpdateFrequency: 4s
syncFrequency: 10s
fileCheckFrequency: 20s
volumePluginDir: $S/volplugins
C
echo "nameserver 127.0.0.1" > "$S/resolv.conf"
[ -s "$KC_DIR/tokens.csv" ] || echo 'admintoken,admin,admin,"system:masters"' > "$KC_DIR/tokens.csv"
d() { local n=$1; shift; setsid "$@" >"$L/$N-$n.log" 2>&1 </dev/null & echo "$n $!" >> "$S/pids"; }
export PATH=$KC_BIN:$PATH
d containerd containerd --config "$S/containerd.toml"
( for _ in $(seq 100); do ctr version >/dev/null 2>&1 && break; sleep 0.1; done
  for t in $KC_IMAGES; do ctr -n k8s.io images import "$t"; done
  touch "$S/images.done" ) >"$L/$N-images.log" 2>&1 &
if [ "$I" = 0 ]; then
d etcd etcd --data-dir "$S/etcd" --unsafe-no-fsync --listen-client-urls http://127.0.0.1:2379 \
  --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380 --log-level warn
d kube-apiserver kube-apiserver --etcd-servers http://127.0.0.1:2379 --secure-port 6443 --advertise-address "$KC_IP" \
  --tls-cert-file $P/apiserver.crt --tls-private-key-file $P/apiserver.key --client-ca-file $P/ca.crt \
  --token-auth-file "$KC_DIR/tokens.csv" --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction \
  --service-account-issuer https://kubernetes.default.svc --service-account-key-file $P/sa.pub \
  --service-account-signing-key-file $P/sa.key --service-cluster-ip-range $KC_SVC_NET \
  --kubelet-client-certificate $P/apiserver-kubelet.crt --kubelet-client-key $P/apiserver-kubelet.key \
  --kubelet-certificate-authority $P/ca.crt --kubelet-preferred-address-types InternalIP \
  --requestheader-client-ca-file $P/front-proxy-ca.crt --requestheader-allowed-names front-proxy-client \
  --requestheader-extra-headers-prefix X-Remote-Extra- --requestheader-group-headers X-Remote-Group \
  --requestheader-username-headers X-Remote-User --proxy-client-cert-file $P/front-proxy.crt \
  --proxy-client-key-file $P/front-proxy.key --enable-aggregator-routing=true --allow-privileged=true ${KC_APISERVER_ARGS:-}
[ -x "$(command -v socat)" ] && d socat socat UNIX-LISTEN:"$KC_DIR/state/api.sock",fork TCP:127.0.0.1:6443
fi
for _ in $(seq 300); do kubectl --server https://$KC_IP:6443 --kubeconfig "$KC_DIR/kubeconfig" get --raw /readyz >/dev/null 2>&1 && break; sleep 0.2; done
if [ "$I" = 0 ]; then
d kube-controller-manager kube-controller-manager --kubeconfig $P/kcm.conf --leader-elect=false \
  --service-account-private-key-file $P/sa.key --root-ca-file $P/ca.crt --use-service-account-credentials=true \
  --cluster-signing-cert-file $P/ca.crt --cluster-signing-key-file $P/ca.key --service-cluster-ip-range $KC_SVC_NET \
  --authentication-kubeconfig $P/kcm.conf --authorization-kubeconfig $P/kcm.conf --bind-address 127.0.0.1
d kube-scheduler kube-scheduler --kubeconfig $P/scheduler.conf --leader-elect=false --bind-address 127.0.0.1 \
  --authentication-kubeconfig $P/scheduler.conf --authorization-kubeconfig $P/scheduler.conf
fi
d kubelet kubelet --config "$S/kubelet.yaml" --kubeconfig $P/kubelet$I.conf --hostname-override $N --node-ip "$IP" ${KC_KUBELET_ARGS:-}
if [ "$KC_PROXY" != none ]; then
  d kube-proxy kube-proxy --kubeconfig $P/proxy.conf --hostname-override $N --proxy-mode "$KC_PROXY" \
    --cluster-cidr $KC_PODS.0.0/16 --conntrack-max-per-core 0 --conntrack-tcp-timeout-established 0 --conntrack-tcp-timeout-close-wait 0
fi
trap 'exit 0' TERM
while :; do sleep 3600 & wait $! || true; done
