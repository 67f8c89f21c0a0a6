// Run by network-world.ts in a namespace of its own: name servers, and servers on every port that the tests try, each of
// which says where it was reached.
import { createSocket } from 'node:dgram';
import { writeFileSync } from 'node:fs';
import { createSecureServer } from 'node:http2';
import { createServer, type Socket } from 'node:net';
import { createSecureContext } from 'node:tls';
import { decode, encode } from 'dns-packet';
import { createAuthority, LeafIssuer } from '../../src/network/intercept/certificates.ts';
import { mirrored } from './network-mirror.ts';
import { SECRET_VALUES } from './network-world.ts';

/** By name and type; a name of `rebind` points where no public name may. */
const NAMES: Readonly<Record<string, { A?: string; AAAA?: string }>> = {
  'allowed.example.com': { A: '20.0.0.10', AAAA: '2600::10' },
  'sub.allowed.example.com': { A: '20.0.0.10' },
  'other.example.com': { A: '20.0.0.11', AAAA: '2600::11' },
  'secure.example.com': { A: '20.0.0.10', AAAA: '2600::10' },
  'elsewhere.example.com': { A: '20.0.0.11', AAAA: '2600::11' },
  'untrusted.example.com': { A: '20.0.0.11' },
  'shared.example.com': { A: '20.0.0.10' },
  'rebind-private.example.com': { A: '10.1.2.3', AAAA: 'fd00::7' },
  'rebind-metadata.example.com': { A: '169.254.169.254', AAAA: 'fd00:ec2::254' },
  'rebind-host.example.com': { A: '20.0.1.1' },
  'rebind-loopback.example.com': { A: '127.0.0.1', AAAA: '::1' },
};

/** Each answers from its own address; only one of the two namespaces has them. */
const NAME_SERVERS = ['20.0.0.53', '20.0.0.54', '2600::53'];

for (const server of NAME_SERVERS) {
  const dns = createSocket(server.includes(':') ? 'udp6' : 'udp4');
  dns.on('error', () => dns.close());
  dns.on('message', (message, { address, port }) => {
    const { id, questions } = decode(message);
    const [question] = questions ?? [];
    const found = NAMES[question?.name ?? ''];
    const data = question?.type === 'A' ? found?.A : question?.type === 'AAAA' ? found?.AAAA : undefined;
    const answers =
      data === undefined || question === undefined
        ? []
        : [{ name: question.name, type: question.type as 'A' | 'AAAA', ttl: 60, data }];
    const flags = found === undefined ? 0x0183 : 0x0180;
    const reply = { type: 'response' as const, id: id ?? 0, flags, questions: questions ?? [], answers };
    dns.send(encode(reply), port, address);
  });
  dns.bind(53, server);
}

/** Datagrams: 443 as QUIC has it, 853 as DNS over it. */
const UDP_PORTS = [443, 853, 9999];
/** Each answers from its own address; only one of the two namespaces has them. */
const UDP_ADDRESSES = [
  '20.0.0.10',
  '20.0.0.11',
  '2600::10',
  '2600::11',
  '10.1.2.3',
  '169.254.169.254',
  '20.0.1.1',
];

for (const address of UDP_ADDRESSES)
  for (const port of UDP_PORTS) {
    const server = createSocket(address.includes(':') ? 'udp6' : 'udp4');
    server.on('error', () => server.close());
    server.on('message', (_message, from) =>
      server.send(`reached ${address} over UDP\n`, from.port, from.address),
    );
    server.bind(port, address);
  }

/** Answers each request, goes on for ever for /slow, and sends a client of /to/HOST there. */
function serve(socket: Socket): void {
  socket.on('error', () => {});
  socket.on('data', (chunk) => {
    const text = chunk.toString('latin1');
    const [, elsewhere] = /^GET \/to\/(\S+)/.exec(text) ?? [];
    if (elsewhere !== undefined) {
      socket.end(`HTTP/1.1 302 Found\r\nLocation: http://${elsewhere}/\r\nContent-Length: 0\r\n\r\n`);
      return;
    }
    for (const [, path = '', host = ''] of text.matchAll(/GET (\S+) [\s\S]*?Host: *(\S+)/gi)) {
      const body = `reached ${socket.localAddress} as ${host}\n`;
      socket.write(
        `HTTP/1.1 200 OK\r\nContent-Length: ${path === '/slow' ? 1e9 : body.length}\r\n\r\n${body}`,
      );
      if (path !== '/slow') continue;
      const timer = setInterval(() => socket.write('still\n'), 100);
      socket.on('close', () => clearInterval(timer));
    }
    if (!text.includes('GET ')) socket.write(`reached ${socket.localAddress}\n`);
  });
}

const basic = (value: string): string => `Basic ${Buffer.from(`user:${value}`).toString('base64')}`;

/**
 * HTTP/2 and HTTP/1.1 over TLS: tells what it was asked, as JSON. One name has a certificate that nobody vouches
 * for. What network-mirror.ts has is at /open/, and for who has a secret's value as password at /private/.
 */
async function serveTls(port: number, authorityFile: string): Promise<void> {
  const authority = await createAuthority('tests', Date.now());
  const [known, unknown] = [authority, await createAuthority('nobody', Date.now())].map(
    (each) => new LeafIssuer(each, Date.now),
  );
  writeFileSync(authorityFile, authority.certificate);
  const server = createSecureServer({
    allowHTTP1: true,
    SNICallback: (name, done) => {
      const issuer = name.startsWith('untrusted') ? unknown : known;
      issuer?.issue(name).then(
        ({ chain, key }) => done(null, createSecureContext({ cert: chain, key })),
        (error: Error) => done(error),
      );
    },
  });
  server.on('request', (request, response) => {
    const body: Buffer[] = [];
    request.on('data', (chunk: Buffer) => body.push(chunk));
    request.on('end', () => {
      const { httpVersion, method, url, headers } = request;
      const [, access, path] = /^\/(open|private)(\/[^?]*)/.exec(url ?? '') ?? [];
      if (path !== undefined) {
        if (access === 'private' && !SECRET_VALUES.some((value) => headers.authorization === basic(value))) {
          response.writeHead(401, { 'www-authenticate': 'Basic realm="mirror"' }).end();
          return;
        }
        const file = mirrored(path);
        if (path.endsWith('/')) response.setHeader('content-type', 'text/html');
        response.writeHead(file === undefined ? 404 : 200, { 'content-length': file?.length ?? 0 });
        response.end(method === 'HEAD' ? '' : (file ?? ''));
        return;
      }
      const text = Buffer.concat(body).toString();
      response.setHeader('content-type', 'application/json');
      response.end(
        `${JSON.stringify({ httpVersion, method, url, headers, body: text, at: request.socket.localAddress })}\n`,
      );
    });
  });
  server.on('upgrade', (_request, socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
    socket.pipe(socket);
  });
  await new Promise<void>((resolve) => server.listen(port, '::', resolve));
}

const [authorityFile = ''] = process.argv.slice(2);
await serveTls(8443, authorityFile);

/** 443 speaks in clear here: what matters is whether it was reached. */
const PORTS = [22, 80, 443, 853, 3128, 8080, 15_001];
let open = 0;
for (const port of PORTS)
  createServer(serve).listen(port, '::', () => {
    open += 1;
    if (open === PORTS.length) process.stdout.write('ready\n');
  });
