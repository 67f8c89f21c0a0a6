// What the guest kernel offers to programs in a sandbox: one boot, every feature used for real.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { GuestAgent } from '../../src/guest/agent.ts';
import { makeDisks, type TestDisks, TestVm, text } from './guest-harness.ts';

const PROBE = fileURLToPath(new URL('../fixtures/kernel-probe.c', import.meta.url));
const MIB = 1024 * 1024;
const FILE_SYSTEM_MIB = 64;
const DEVICE_MIB = 128;
/** Of one script: what hangs is killed and fails its own test only. */
const SCRIPT_LIMIT_MS = 60_000;
/** Features of a virtio device by bit: the file has one character per bit. */
const BALLOON_REPORTING_BIT = 5;

let disks: TestDisks;
let vm: TestVm;
let agent: GuestAgent;
let count = 0;

before(async () => {
  // The probe has to lie somewhere before the directory of the disks is known.
  const scratch = execFileSync('mktemp', ['-d', '/tmp/bulkhead-probe-XXXXXX'], { encoding: 'utf8' }).trim();
  try {
    const probe = join(scratch, 'probe');
    execFileSync('gcc', ['-std=c11', '-D_GNU_SOURCE', '-O1', '-static', '-o', probe, PROBE]);
    disks = await makeDisks({
      programs: [
        ...[
          '/usr/bin/dash',
          '/usr/sbin/nft',
          '/usr/sbin/iptables-nft',
          '/usr/sbin/ip6tables-nft',
          '/usr/sbin/ip',
          '/usr/sbin/tc',
        ],
        ...['/usr/sbin/resize2fs', '/usr/sbin/mkfs.ext4', '/usr/bin/setfacl', '/usr/bin/getfacl'],
        ...['/usr/bin/getfattr', '/usr/bin/setfattr', '/usr/bin/unshare', '/usr/sbin/losetup'],
      ],
      // Matches and targets of iptables are libraries that it loads by name.
      paths: ['/usr/lib/x86_64-linux-gnu/xtables'],
      files: { '/usr/bin/probe': probe },
    });
  } finally {
    execFileSync('rm', ['-r', scratch]);
  }
  const ext4 = join(disks.dir, 'grow.ext4');
  await writeFile(ext4, '');
  await truncate(ext4, DEVICE_MIB * MIB);
  execFileSync('mkfs.ext4', ['-q', '-F', ext4, `${FILE_SYSTEM_MIB}M`], { stdio: 'pipe' });
  const erofs = join(disks.dir, 'packed.erofs');
  const content = join(disks.dir, 'packed');
  await mkdir(content);
  await writeFile(join(content, 'lines'), Array.from({ length: 300_000 }, (_, i) => `line ${i}\n`).join(''));
  execFileSync('setfattr', ['-n', 'user.colour', '-v', 'blue', join(content, 'lines')]);
  execFileSync('setfacl', ['-m', 'u:1000:r', join(content, 'lines')]);
  execFileSync('mkfs.erofs', ['-zlz4hc', erofs, content], { stdio: 'pipe' });
  const drive = (id: string, path: string): string[] => [
    ...['-drive', `if=none,id=${id},file=${path},format=raw`],
    ...['-device', `virtio-blk-device,drive=${id},serial=${id}`],
  ];
  vm = new TestVm(disks, {
    memoryMiB: 640,
    cpus: 2,
    network: true,
    extraArguments: [
      ...drive('grow', ext4),
      ...drive('packed', erofs),
      ...['-device', 'virtio-balloon-device,free-page-reporting=on'],
    ],
  });
  agent = await vm.agent();
  await agent.mountRoot({ imageDevice: 'vda', upperDevice: 'vdb' });
  await agent.personalize({
    hostname: 'box',
    entropy: new Uint8Array(32),
    nameservers: [],
    searchDomains: [],
    extraHosts: [],
  });
  // A sandbox has no disk nodes in its /dev; root in it may make them.
  await guest(`
    for disk in /sys/block/vd*; do
      if [ -e $disk/serial ] && [ -n "$(cat $disk/serial)" ]; then
        mknod /dev/$(cat $disk/serial) b $(tr : ' ' < $disk/dev)
      fi
    done
    mkdir -p /mnt`);
});

after(async () => {
  await agent?.close();
  await vm?.kill();
  await disks?.remove();
});

/** Runs a script in the guest, each in mount and network namespaces of its own; a failing line fails the test. */
// dash, because the shell of busybox prefers its own applets to the programs of these names.
async function guest(script: string, options: { isolated?: boolean } = {}): Promise<string> {
  const shell = ['dash', '-euxc', script];
  const process = await agent.exec({
    sessionId: `k-${++count}`,
    argv: options.isolated ? ['unshare', '-n', '-m', '--', ...shell] : shell,
    env: [],
    stdin: false,
    overflow: 'block',
    timeoutMs: SCRIPT_LIMIT_MS,
  });
  const [out, trace, exit] = await Promise.all([text(process.stdout), text(process.stderr), process.exited]);
  await process.release();
  assert.equal(
    exit.exitCode,
    0,
    `exit ${exit.exitCode} ${exit.signal}\n${trace.slice(-2000)}${out.slice(-2000)}`,
  );
  return out;
}

const isolated = (script: string): Promise<string> => guest(script, { isolated: true });

/** Shell lines: tries a condition again until it holds, the script's limit is the bound. */
const until = (condition: string): string => `until ${condition}; do sleep 0.05; done`;

describe('file systems', () => {
  test('EROFS reads lz4hc, extended attributes and access lists', async () => {
    const out = await isolated(`
      mount -t erofs -o ro /dev/packed /mnt
      sha256sum < /mnt/lines
      getfattr --only-values -n user.colour /mnt/lines; echo
      getfacl -cn /mnt/lines`);
    const sum = execFileSync('sha256sum', [join(disks.dir, 'packed/lines')], { encoding: 'utf8' });
    assert.ok(out.startsWith(sum.slice(0, 64)), out);
    assert.match(out, /^blue$/m);
    assert.match(out, /^user:1000:r--$/m);
  });

  test('ext4 keeps access lists and grows while it is mounted', async () => {
    const out = await isolated(`
      mount -t ext4 -o acl /dev/grow /mnt
      echo kept > /mnt/file
      setfacl -m u:1000:rw /mnt/file
      getfacl -cn /mnt/file
      df -m /mnt | tail -n 1
      resize2fs /dev/grow
      df -m /mnt | tail -n 1
      dd if=/dev/zero of=/mnt/large bs=1M count=80
      cat /mnt/file`);
    assert.match(out, /^user:1000:rw-$/m);
    assert.match(out, /^kept$/m);
    const sizes = [...out.matchAll(/^\/dev\/grow +(\d+)/gm)].map((match) => Number(match[1]));
    assert.equal(sizes.length, 2, out);
    assert.ok((sizes[0] ?? 0) < FILE_SYSTEM_MIB && (sizes[1] ?? 0) > 1.7 * FILE_SYSTEM_MIB, sizes.join());
  });

  test('an overlay takes writes and hides what was deleted', async () => {
    const out = await isolated(`
      mount -t tmpfs tmpfs /mnt
      mkdir /mnt/lower /mnt/upper /mnt/work /mnt/all
      echo old > /mnt/lower/changed; echo old > /mnt/lower/deleted
      mount -t overlay overlay -o lowerdir=/mnt/lower,upperdir=/mnt/upper,workdir=/mnt/work /mnt/all
      echo new > /mnt/all/changed; rm /mnt/all/deleted
      cat /mnt/all/changed /mnt/lower/changed
      test ! -e /mnt/all/deleted
      stat -c '%F %t,%T' /mnt/upper/deleted`);
    assert.equal(out, 'new\nold\ncharacter special file 0,0\n');
  });

  test('devtmpfs, devpts and tmpfs with extended attributes and access lists', async () => {
    await isolated(`
      mount -t devtmpfs devtmpfs /mnt
      test -b /mnt/vda
      umount /mnt
      mount -t devpts devpts /mnt
      test -c /mnt/ptmx
      umount /mnt
      mount -t tmpfs -o size=1m tmpfs /mnt
      touch /mnt/file
      setfattr -n trusted.probe -v yes /mnt/file
      getfattr --only-values -n trusted.probe /mnt/file | grep -q yes
      setfacl -m u:1000:r /mnt/file
      getfacl -cn /mnt/file | grep -q '^user:1000:r--'
      ! dd if=/dev/zero of=/mnt/file bs=1M count=2`);
  });

  test('loop devices', async () => {
    await isolated(`
      truncate -s 8M /root/disk
      mkfs.ext4 -q /root/disk
      n=$(losetup -f | tr -dc 0-9)
      test -b /dev/loop$n || mknod /dev/loop$n b 7 $n
      losetup /dev/loop$n /root/disk
      mount -t ext4 /dev/loop$n /mnt
      echo hello > /mnt/file
      umount /mnt
      losetup -d /dev/loop$n
      grep -q hello /root/disk`);
  });

  test('a FUSE mount reaches its server', () => isolated('probe fuse').then(() => {}));

  test('binfmt_misc runs a foreign format by its interpreter', async () => {
    const out = await isolated(`
      mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
      echo ':probe:M::PROBEFMT::/bin/cat:' > /proc/sys/fs/binfmt_misc/register
      echo 'PROBEFMT content' > /root/foreign
      chmod +x /root/foreign
      /root/foreign
      echo -1 > /proc/sys/fs/binfmt_misc/probe`);
    assert.equal(out, 'PROBEFMT content\n');
  });
});

describe('control groups and namespaces', () => {
  test('all six controllers can be enabled', async () => {
    const out = await guest(`
      cd /sys/fs/cgroup
      for controller in cpuset cpu io memory hugetlb pids; do echo +$controller > cgroup.subtree_control; done
      mkdir probe-all
      ls probe-all
      rmdir probe-all`);
    for (const file of ['cpuset.cpus', 'cpu.max', 'io.max', 'memory.max', 'hugetlb.2MB.max', 'pids.max'])
      assert.match(out, new RegExp(`^${file.replaceAll('.', '\\.')}$`, 'm'));
  });

  test('the freezer stops a group and lets it go on', async () => {
    await guest(`
      cd /sys/fs/cgroup
      mkdir probe-freeze
      sh -c 'echo $$ > probe-freeze/cgroup.procs; exec sleep 1000' &
      ${until('grep -q populated.1 probe-freeze/cgroup.events')}
      echo 1 > probe-freeze/cgroup.freeze
      ${until('grep -q frozen.1 probe-freeze/cgroup.events')}
      echo 0 > probe-freeze/cgroup.freeze
      ${until('grep -q frozen.0 probe-freeze/cgroup.events')}
      echo 1 > probe-freeze/cgroup.kill
      ${until('grep -q populated.0 probe-freeze/cgroup.events')}
      rmdir probe-freeze`);
  });

  test('pressure stall information, of the machine and of a group', async () => {
    const out = await guest(`
      cat /proc/pressure/cpu /proc/pressure/memory /proc/pressure/io
      mkdir /sys/fs/cgroup/probe-psi
      cat /sys/fs/cgroup/probe-psi/memory.pressure
      rmdir /sys/fs/cgroup/probe-psi`);
    assert.ok((out.match(/^some avg10=/gm) ?? []).length === 4, out);
  });

  test('every kind of namespace', async () => {
    const out = await guest(`
      for kind in cgroup ipc mnt net pid time user uts; do test -e /proc/self/ns/$kind; done
      unshare -Urnmpf -iuCT --mount-proc dash -ec 'hostname inner; hostname; id -u; echo $$; ip -o link | wc -l'
      hostname`);
    assert.equal(out, 'inner\n0\n1\n1\nbox\n');
  });

  test('a plain user may make user namespaces', async () => {
    assert.equal(await guest(`su dev -c '/usr/bin/unshare -Ur id -u'`), '0\n');
  });

  test('the highest process id can be raised above 32768', async () => {
    const out = await guest(`
      echo 4194304 > /proc/sys/kernel/pid_max
      cat /proc/sys/kernel/pid_max`);
    assert.equal(out, '4194304\n');
  });
});

describe('network', () => {
  test('an nft ruleset of every family loads and counts', async () => {
    const out = await isolated(`
      ip link set lo up
      ip link add probe0 type dummy
      cat > /tmp/rules <<'END'
      table inet filter {
        chain input {
          type filter hook input priority filter; policy accept;
          icmp type echo-request counter comment "pings"
          ct state established,related accept
          ct state invalid drop
          fib daddr type broadcast drop
          icmp type echo-request limit rate 1000/second log prefix "ping " accept
          tcp dport 81 ct count over 10 reject with tcp reset
          tcp dport 82 meta mark set 7 reject
          udp dport 83 quota over 1 mbytes drop
        }
      }
      table ip nat {
        chain prerouting { type nat hook prerouting priority dstnat; tcp dport 80 redirect to :8080; tcp dport 90 dnat to 10.9.9.9:90; }
        chain postrouting { type nat hook postrouting priority srcnat; oifname "probe0" masquerade; oifname "x" snat to 10.9.9.1; }
      }
      table ip6 nat6 {
        chain postrouting { type nat hook postrouting priority srcnat; oifname "probe0" masquerade; }
      }
      table bridge layer2 {
        chain forward { type filter hook forward priority filter; ether type arp accept; }
      }
      table netdev early {
        chain ingress { type filter hook ingress device "probe0" priority 0; ip saddr 10.66.0.0/16 drop; }
      }
      table arp resolve {
        chain input { type filter hook input priority filter; arp operation request accept; }
      }
      table inet sets {
        set seen { type ipv4_addr; flags dynamic, timeout; timeout 1m; }
        set nets { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 } }
        map ports { type inet_service : verdict; elements = { 22 : accept } }
        chain input { type filter hook input priority 10; ip saddr @nets tcp dport vmap @ports; update @seen { ip saddr }; }
      }
END
      nft -f /tmp/rules
      ping -c 3 -i 0.1 127.0.0.1 > /dev/null
      nft list ruleset`);
    assert.match(out, /counter packets 3 bytes 252 comment "pings"/);
    for (const family of ['ip nat', 'ip6 nat6', 'bridge layer2', 'netdev early', 'arp resolve', 'inet sets'])
      assert.ok(out.includes(`table ${family} {`), family);
    assert.match(out, /127\.0\.0\.1 .*expires/);
  });

  test('connections are redirected by nft', async () => {
    const out = await isolated(`
      ip link set lo up
      nft 'table ip nat { chain output { type nat hook output priority -100; tcp dport 80 redirect to :8080; }; }'
      mkdir /run/site
      echo answer > /run/site/page
      httpd -f -p 127.0.0.1:8080 -h /run/site &
      ${until('grep -q :1F90 /proc/net/tcp')}
      wget -q -O - http://127.0.0.1/page
      kill $!
      grep -c dport=80 /proc/net/nf_conntrack`);
    assert.match(out, /^answer\n[1-9]/);
  });

  test('iptables as container engines use it, for both families', async () => {
    const out = await isolated(`
      for t in iptables-nft ip6tables-nft; do
        $t -t nat -N DOCKER
        $t -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
        $t -t nat -A OUTPUT -m addrtype --dst-type LOCAL -j DOCKER
        $t -t nat -A POSTROUTING ! -o docker0 -j MASQUERADE
        $t -t nat -A DOCKER -p tcp ! -i docker0 --dport 81 -j REDIRECT --to-ports 8081
        $t -N DOCKER-USER
        $t -A FORWARD -j DOCKER-USER
        $t -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        $t -A FORWARD -p tcp -m multiport --dports 80,443 -m comment --comment published -j ACCEPT
        $t -A FORWARD -m limit --limit 5/min -j NFLOG --nflog-group 3
        $t -A FORWARD -m mark --mark 0x1 -j REJECT
        $t -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
        $t -t mangle -A PREROUTING -m statistic --mode random --probability 0.5 -j MARK --set-mark 2
        $t -A FORWARD -m physdev --physdev-is-bridged -j ACCEPT
        $t -t raw -A PREROUTING -p udp -j CT --notrack
      done
      iptables-nft -t nat -A DOCKER -p tcp --dport 80 -j DNAT --to-destination 172.17.0.2:80
      iptables-nft -S; iptables-nft -t nat -S; ip6tables-nft -S; ip6tables-nft -t mangle -S`);
    for (const part of [
      '--to-destination 172.17.0.2:80',
      '--ctstate RELATED,ESTABLISHED',
      '--comment published',
      '--nflog-group 3',
      '-j REJECT --reject-with icmp6-port-unreachable',
      '-j TCPMSS --clamp-mss-to-pmtu',
    ])
      assert.ok(out.includes(part), part);
  });

  test('a bridge joins two namespaces, and its frames pass the packet filter', async () => {
    const out = await isolated(`
      ip link add br0 type bridge
      ip addr add 10.5.0.1/24 dev br0
      ip link set br0 up
      for n in 2 3; do
        unshare -n sleep 1000 &
        pid=$!
        ${until('[ "$(readlink /proc/$pid/ns/net)" != "$(readlink /proc/self/ns/net)" ]')}
        ip link add veth$n type veth peer name peer$n
        ip link set veth$n master br0 up
        ip link set peer$n netns $pid
        nsenter -t $pid -n dash -ec "ip addr add 10.5.0.$n/24 dev peer$n; ip link set peer$n up"
        eval pid$n=$pid
      done
      nft 'table ip filter { chain forward { type filter hook forward priority 0; counter; }; }'
      echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables
      nsenter -t $pid2 -n ping -c 3 -i 0.2 -W 5 10.5.0.3
      nft list ruleset
      kill $pid2 $pid3`);
    assert.match(out, /3 packets received/);
    assert.match(out, /counter packets [1-9]/);
  });

  test('dummy, macvlan and ipvlan interfaces', async () => {
    const out = await isolated(`
      ip link add base type dummy
      ip link add link base name mac0 type macvlan mode bridge
      ip link add base2 type dummy
      ip link add link base2 name ipv0 type ipvlan mode l2
      ip -d -o link`);
    for (const part of ['dummy', 'macvlan mode bridge', 'ipvlan']) assert.ok(out.includes(part), part);
  });

  test('tun and tap devices', async () => {
    const out = await isolated(`
      ip tuntap add dev tun0 mode tun
      ip tuntap add dev tap0 mode tap
      ip -d -o link`);
    assert.match(out, /tun0: .* tun type tun/);
    assert.match(out, /tap0: .* tun type tap/);
  });

  test('traffic control: tbf, htb, fq_codel and clsact', async () => {
    const out = await isolated(`
      for n in 0 1 2; do ip link add d$n type dummy; ip link set d$n up; done
      tc qdisc add dev d0 root tbf rate 1mbit burst 32kbit latency 400ms
      tc qdisc add dev d0 clsact
      tc qdisc add dev d1 root handle 1: htb default 10
      tc class add dev d1 parent 1: classid 1:10 htb rate 1mbit
      tc qdisc add dev d2 root fq_codel
      tc qdisc show`);
    for (const part of ['tbf 8', 'clsact', 'htb 1:', 'fq_codel 8'])
      assert.match(out, new RegExp(`^qdisc ${part}.* dev d[012]`, 'm'));
  });

  test('the kernel lists sockets', () => guest('probe sock_diag').then(() => {}));
});

describe('devices', () => {
  test('the drivers of all virtio devices are built in', async () => {
    const names = (await guest('ls /sys/bus/virtio/drivers')).trim().split('\n');
    for (const name of [
      'virtio_balloon',
      'virtio_blk',
      'virtio_console',
      'virtio_mem',
      'virtio_net',
      'virtio_rng',
      'virtiofs',
      'vmw_vsock_virtio_transport',
    ])
      assert.ok(names.includes(name), `${name} in ${names}`);
  });

  test('the host lends entropy', async () => {
    const out = await guest(`
      cat /sys/class/misc/hw_random/rng_current
      mknod /dev/hwrng c $(tr : ' ' < /sys/class/misc/hw_random/dev)
      dd if=/dev/hwrng bs=64 count=1 2>/dev/null | wc -c
      rm /dev/hwrng`);
    assert.match(out, /^virtio_rng/);
    assert.ok(Number(out.split('\n')[1]) > 0, out);
  });

  test('free pages are reported to the host', async () => {
    const features = await guest('cat /sys/bus/virtio/drivers/virtio_balloon/virtio*/features');
    assert.equal(features[BALLOON_REPORTING_BIT], '1', features);
  });

  test('compressed swap in memory', async () => {
    await guest(`
      mknod /dev/zram0 b $(tr : ' ' < /sys/block/zram0/dev)
      echo 16M > /sys/block/zram0/disksize
      mkswap /dev/zram0
      swapon /dev/zram0
      grep -q zram0 /proc/swaps
      swapoff /dev/zram0
      echo 1 > /sys/block/zram0/reset`);
  });
});

describe('memory, time and the rest', () => {
  test('equal pages are joined', async () => {
    await guest(`
      cd /sys/kernel/mm/ksm
      echo 1000 > pages_to_scan; echo 10 > sleep_millisecs; echo 1 > run
      mkfifo /run/hold
      probe same_pages < /run/hold &
      exec 9> /run/hold
      ${until('[ $(cat pages_sharing) -gt 0 ]')}
      exec 9>&-
      wait $!
      echo 2 > run`);
  });

  test('huge pages', async () => {
    await isolated(`
      ! probe huge_page
      echo 2 > /proc/sys/vm/nr_hugepages
      probe huge_page
      mount -t hugetlbfs none /mnt
      echo 0 > /proc/sys/vm/nr_hugepages`);
  });

  test('Landlock and Yama are the security modules', async () => {
    const out = await isolated(`
      mount -t securityfs securityfs /sys/kernel/security
      cat /sys/kernel/security/lsm; echo`);
    assert.match(out, /landlock/);
    assert.match(out, /yama/);
  });

  test('Landlock keeps a program from writing', () => guest('probe landlock').then(() => {}));

  test('Yama keeps a user from tracing processes that are not its children', async () => {
    await guest(`
      cd /proc/sys/kernel/yama
      su dev -c 'exec sleep 1000' &
      ${until('pidof sleep > /run/sleepers')}
      ${until('[ "$(stat -c %u /proc/$(pidof sleep))" = 1000 ]')}
      pid=$(pidof sleep)
      echo 0 > ptrace_scope
      su dev -c "probe attach $pid"
      echo 1 > ptrace_scope
      ! su dev -c "probe attach $pid"
      kill $pid`);
  });

  test('message queues', () => guest('probe mqueue').then(() => {}));
  test('io_uring', () => guest('probe io_uring').then(() => {}));
  test('BPF maps and programs', () => guest('probe bpf').then(() => {}));

  test('the configuration can be read', async () => {
    assert.match(await guest('zcat /proc/config.gz'), /^CONFIG_LOCALVERSION="-bulkhead"$/m);
  });

  test('the clock is the time stamp counter', async () => {
    const out = await guest('cat /sys/devices/system/clocksource/clocksource0/current_clocksource');
    assert.equal(out, 'tsc\n');
  });

  test('nothing of this made the kernel complain', async () => {
    const log = await guest('dmesg');
    assert.doesNotMatch(log, /\b(BUG|WARNING|Oops|Call Trace)\b/);
  });
});
