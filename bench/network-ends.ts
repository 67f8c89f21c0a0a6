// The ends of what bench/network.ts measures, each a process in a namespace of its own.
// Usage: network-ends.ts server PORT | client ADDRESS PORT SECONDS | gateway BUILD_DIR HOLDER_PID
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { argv, stdout } from 'node:process';
import { systemClock } from '../src/controller/clock.ts';
import { GatewayBench } from './network-gateway.ts';

const CHUNK = Buffer.alloc(256 * 1024);
const TOGETHER = 8;

/** What a client measured. */
export interface Figures {
  upGbit: number;
  downGbit: number;
  connections: number;
  connectionsTogether: number;
  roundTripP50: number;
  roundTripP99: number;
}

/** The first byte says what is wanted: `u` takes all, `d` gives without end, `e` gives back. */
function serve(port: number): void {
  createServer({ noDelay: true }, (socket) => {
    socket.on('error', () => {});
    socket.once('data', (first) => {
      if (first[0] === 0x75) socket.resume();
      else if (first[0] === 0x64) {
        const give = () => {
          while (socket.write(CHUNK));
        };
        socket.on('drain', give);
        give();
      } else {
        socket.write(first.subarray(1));
        socket.pipe(socket);
      }
    });
  }).listen(port, '0.0.0.0', () => stdout.write('ready\n'));
}

async function open(host: string, port: number, what: string): Promise<Socket> {
  const socket = connect({ host, port, noDelay: true });
  socket.on('error', () => {});
  await once(socket, 'connect');
  socket.write(what);
  return socket;
}

async function upGbit(socket: Socket, ms: number): Promise<number> {
  const start = performance.now();
  const before = socket.bytesWritten - socket.writableLength;
  while (performance.now() - start < ms) if (!socket.write(CHUNK)) await once(socket, 'drain');
  const bytes = socket.bytesWritten - socket.writableLength - before;
  const gbit = (bytes * 8) / (performance.now() - start) / 1e6;
  socket.resetAndDestroy();
  return gbit;
}

async function downGbit(socket: Socket, ms: number): Promise<number> {
  const start = performance.now();
  let bytes = 0;
  socket.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
  });
  while (performance.now() - start < ms) await once(socket, 'data');
  const gbit = (bytes * 8) / (performance.now() - start) / 1e6;
  socket.resetAndDestroy();
  return gbit;
}

/** Connections a second, each with one byte there and back. */
async function connections(host: string, port: number, ms: number, together: number): Promise<number> {
  const start = performance.now();
  let made = 0;
  const loop = async () => {
    while (performance.now() - start < ms) {
      const socket = await open(host, port, 'ex');
      await once(socket, 'data');
      // A reset leaves no port behind that waits.
      socket.resetAndDestroy();
      made += 1;
    }
  };
  await Promise.all(Array.from({ length: together }, loop));
  return made / ((performance.now() - start) / 1000);
}

async function roundTrips(socket: Socket, ms: number): Promise<number[]> {
  const times: number[] = [];
  await once(socket, 'data');
  const start = performance.now();
  while (performance.now() - start < ms) {
    const sent = performance.now();
    socket.write('x');
    await once(socket, 'data');
    times.push((performance.now() - sent) * 1000);
  }
  socket.resetAndDestroy();
  return times.sort((a, b) => a - b);
}

async function measure(host: string, port: number, ms: number): Promise<Figures> {
  const times = await roundTrips(await open(host, port, 'ex'), ms);
  const at = (part: number) => times[Math.floor(times.length * part)] ?? Number.NaN;
  return {
    upGbit: await upGbit(await open(host, port, 'u'), ms),
    downGbit: await downGbit(await open(host, port, 'd'), ms),
    connections: await connections(host, port, ms, 1),
    connectionsTogether: await connections(host, port, ms, TOGETHER),
    roundTripP50: at(0.5),
    roundTripP99: at(0.99),
  };
}

const [role = '', first = '', second = '', third = ''] = argv.slice(2);
if (role === 'server') serve(Number(first));
else if (role === 'client') {
  stdout.write(`${JSON.stringify(await measure(first, Number(second), Number(third) * 1000))}\n`);
  process.exit(0);
} else if (role === 'gateway') {
  await GatewayBench.open(first, Number(second), systemClock);
  stdout.write('ready\n');
}
