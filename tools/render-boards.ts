// Draws the boards into docs/boards/*.svg: a daemon with a few busy sandboxes, a Prometheus that scrapes it, and after some
// minutes a picture of each board from its own JSON and that Prometheus' data. Starts VMs, so as root.
// Usage: node tools/render-boards.ts [MINUTES]
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { boards } from '../monitoring/boards/boards.ts';
import { boardSvg, type PictureBoard } from '../monitoring/pictures/board-svg.ts';
import { sandboxYaml, TestDaemon } from '../test/e2e/daemon-harness.ts';
import { freePort, Prometheus } from '../test/e2e/prometheus.ts';

const BOARDS = join(import.meta.dirname, '..', 'monitoring', 'grafana');
const FOLDER = join(import.meta.dirname, '..', 'docs', 'boards');
const DEFAULT_MINUTES = 4;
/** Across a panel: more make files larger, and no picture better. */
const MOMENTS = 60;
/** The rules' periods are up to half an hour; with this they are as long as the range that the boards are drawn for. */
const SPEED = 6;

/** Between two visits of the sandbox that serves. */
const VISIT_MS = 1_000;

/** What each does, again and again. */
const WORK: Readonly<Record<string, string>> = {
  builder: 'dd if=/dev/zero of=/out bs=1M count=40 conv=fsync; rm /out; sleep 8',
  trainer: 'i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; sleep 4',
  // Serves what is asked for below.
  web: 'nc -l -p 8000 -e dd if=/dev/zero bs=1k count=64',
  crawler: 'nslookup example.com; timeout 2 nc -w 1 10.0.0.1 80; timeout 2 nc -w 1 192.168.1.1 443; sleep 2',
};
/** The one of the board Sandbox. */
const CHOSEN = 'builder';

/** Takes what a port gives. */
async function visit(port: number): Promise<void> {
  const socket = connect(port, '127.0.0.1').resume();
  await once(socket, 'close').catch(() => {});
}

async function draw(minutes: number): Promise<void> {
  const target = `127.0.0.1:${await freePort()}`;
  await using daemon = await TestDaemon.start({ extraArgs: ['--metrics-address', target] });
  await using prometheus = await Prometheus.start({ target, speed: SPEED });
  await prometheus.until('up{job="bulkhead"}', (up) => up === 1);
  const from = Math.floor(Date.now() / 1000);
  const hostPort = await freePort();
  const spec = { resources: { cpus: 1, memory: '192Mi', disk: '512Mi' } };
  for (const [name, work] of Object.entries(WORK)) {
    const main = { command: ['sh', '-c', `while :; do ${work}; done >/dev/null 2>&1`] };
    const ports = name === 'web' ? { ports: [{ name: 'web', port: 8000, hostPort }] } : {};
    await daemon.write(`${name}.yaml`, sandboxYaml(name, { ...spec, ...ports, main }));
  }
  const main = { command: ['sh', '-c', 'sleep 5; exit 1'] };
  await daemon.write('flaky.yaml', sandboxYaml('flaky', { main, restartPolicy: 'Always' }));
  for (const name of Object.keys(WORK)) await daemon.waitReady(name);
  await daemon.ok('exec', CHOSEN, '--', 'true');
  while (Date.now() / 1000 < from + minutes * 60) {
    await visit(hostPort);
    await sleep(VISIT_MS);
  }
  const range = { from, to: Math.floor(Date.now() / 1000) };
  mkdirSync(FOLDER, { recursive: true });
  for (const { file } of boards()) {
    const board = JSON.parse(readFileSync(join(BOARDS, file), 'utf8')) as PictureBoard;
    const ask = (expr: string) => prometheus.panel(expr, CHOSEN, { ...range, moments: MOMENTS });
    const svg = await boardSvg(board, ask, range);
    writeFileSync(join(FOLDER, file.replace(/\.json$/, '.svg')), svg);
    console.log(`${file}: ${(svg.length / 1024).toFixed(0)} KiB`);
  }
}

await draw(Number(process.argv[2] ?? DEFAULT_MINUTES));
