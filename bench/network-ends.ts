// The ends of what bench/network.ts measures, each a process in a namespace of its own.
// Usage: network-ends.ts server PORT | client ADDRESS PORT SECONDS | tls ADDRESS PORT SECONDS | dns ADDRESS
//        | gateway BUILD_DIR HOLDER_PID
// A server has TLS on the port after its own, and answers names on port 53.
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { argv, stdout } from 'node:process';
import { connect as connectTls, createServer as createTlsServer, TLSSocket } from 'node:tls';
import { decode, encode } from 'dns-packet';
import { systemClock } from '../src/controller/clock.ts';
import { createAuthority, LeafIssuer } from '../src/network/intercept/certificates.ts';
import { GatewayBench } from './network-gateway.ts';

const CHUNK = Buffer.alloc(256 * 1024);
const TOGETHER = 8;
const NAME = 'bench.example.com';

/** What a client measured. */
export interface Figures {
  upGbit: number;
  downGbit: number;
  connections: number;
  connectionsTogether: number;
  roundTripP50: number;
  roundTripP99: number;
}

/** Answers of a name server: those that it knows, and those that it has to ask for. Microseconds. */
export interface DnsFigures {
  perSecond: number;
  p50: number;
  p99: number;
}

/** The first byte says what is wanted: `u` takes all, `d` gives without end, `e` gives back. No word of HTTP begins so. */
function answer(socket: Socket): void {
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
}

async function serve(port: number): Promise<void> {
  const { chain, key } = await new LeafIssuer(await createAuthority('bench', Date.now()), Date.now).issue(
    NAME,
  );
  createTlsServer({ cert: chain, key, noDelay: true }, answer).listen(port + 1, '0.0.0.0');
  const names = createSocket('udp4');
  names.on('message', (message, { address, port: from }) => {
    const { id = 0, questions = [] } = decode(message);
    const answers = questions.map(({ name }) => ({ name, type: 'A' as const, ttl: 60, data: '20.0.0.10' }));
    names.send(encode({ type: 'response', id, flags: 0x0180, questions, answers }), from, address);
  });
  names.bind(53, '20.0.0.10');
  createServer({ noDelay: true }, answer).listen(port, '0.0.0.0', () => stdout.write('ready\n'));
}

type Open = (what: string) => Promise<Socket>;

const openPlain =
  (host: string, port: number): Open =>
  async (what) => {
    const socket = connect({ host, port, noDelay: true });
    socket.on('error', () => {});
    await once(socket, 'connect');
    socket.write(`${what}\0`);
    return socket;
  };

const openTls =
  (host: string, port: number): Open =>
  async (what) => {
    // Whose certificate it is matters to nobody here.
    const socket = connectTls({ host, port: port + 1, servername: NAME, rejectUnauthorized: false });
    socket.setNoDelay();
    socket.on('error', () => {});
    await once(socket, 'secureConnect');
    socket.write(`${what}\0`);
    return socket;
  };

/** A reset leaves no port behind that waits; TLS has none. */
function drop(socket: Socket): void {
  if (socket instanceof TLSSocket) socket.destroy();
  else socket.resetAndDestroy();
}

async function upGbit(socket: Socket, ms: number): Promise<number> {
  const start = performance.now();
  const before = socket.bytesWritten - socket.writableLength;
  while (performance.now() - start < ms) if (!socket.write(CHUNK)) await once(socket, 'drain');
  const bytes = socket.bytesWritten - socket.writableLength - before;
  const gbit = (bytes * 8) / (performance.now() - start) / 1e6;
  drop(socket);
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
  drop(socket);
  return gbit;
}

/** Connections a second, each with one byte there and back. */
async function connections(open: Open, ms: number, together: number): Promise<number> {
  const start = performance.now();
  let made = 0;
  const loop = async () => {
    while (performance.now() - start < ms) {
      const socket = await open('e');
      await once(socket, 'data');
      drop(socket);
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
  drop(socket);
  return times.sort((a, b) => a - b);
}

async function measure(open: Open, ms: number): Promise<Figures> {
  const times = await roundTrips(await open('e'), ms);
  return {
    upGbit: await upGbit(await open('u'), ms),
    downGbit: await downGbit(await open('d'), ms),
    connections: await connections(open, ms, 1),
    connectionsTogether: await connections(open, ms, TOGETHER),
    roundTripP50: at(times, 0.5),
    roundTripP99: at(times, 0.99),
  };
}

function at(times: readonly number[], part: number): number {
  return times[Math.floor(times.length * part)] ?? Number.NaN;
}

/** So many that the bounds of one guest do not matter. */
const QUESTIONS = 40;
const LOST_MS = 1_000;

/** Questions one after the other, each for the name that `nameOf` gives. */
async function askDns(host: string, nameOf: (index: number) => string): Promise<DnsFigures> {
  const socket = createSocket('udp4');
  const times: number[] = [];
  const start = performance.now();
  for (let id = 0; id < QUESTIONS; id += 1) {
    const sent = performance.now();
    const questions = [{ type: 'A' as const, name: nameOf(id) }];
    socket.send(encode({ type: 'query', id, flags: 0x0100, questions }), 53, host);
    // One that is lost counts as what it is, a long wait.
    await once(socket, 'message', { signal: AbortSignal.timeout(LOST_MS) }).catch(() => {});
    times.push((performance.now() - sent) * 1000);
  }
  const perSecond = times.length / ((performance.now() - start) / 1000);
  socket.close();
  times.sort((a, b) => a - b);
  return { perSecond, p50: at(times, 0.5), p99: at(times, 0.99) };
}

const [role = '', first = '', second = '', third = ''] = argv.slice(2);
const print = (figures: unknown) => stdout.write(`${JSON.stringify(figures)}\n`);
if (role === 'server') await serve(Number(first));
else if (role === 'client' || role === 'tls') {
  const open = (role === 'tls' ? openTls : openPlain)(first, Number(second));
  print(await measure(open, Number(third) * 1000));
  process.exit(0);
} else if (role === 'dns') {
  const run = Math.random().toString(36).slice(2);
  const known = await askDns(first, () => NAME);
  // Below different domains: the names below one are bounded.
  const fresh = await askDns(first, (index) => `${run}-${index}.com`);
  print({ known, fresh });
  process.exit(0);
} else if (role === 'gateway') {
  await GatewayBench.open(first, Number(second), systemClock, third === 'intercept');
  stdout.write('ready\n');
}
