// Connections whose TLS the gateway opens, between sockets of this process: real TLS, HTTP/1.1 and HTTP/2 at both ends.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectHttp2, createSecureServer, type IncomingHttpHeaders } from 'node:http2';
import { request as httpsRequest } from 'node:https';
import { type AddressInfo, createServer } from 'node:net';
import { after, before, type TestContext, test } from 'node:test';
import { connect as connectTls, createSecureContext, type TLSSocket } from 'node:tls';
import { systemClock } from '../../controller/clock.ts';
import { type Authority, createAuthority, LeafIssuer } from '../intercept/certificates.ts';
import { LeafCache } from '../intercept/leaf-cache.ts';
import { decideFlow } from '../policy/decide.ts';
import { explain } from '../policy/flow.ts';
import { placeholderOf } from '../secrets/secret.ts';
import { effectiveOf, flow } from '../testing/policies.ts';
import { EgressRate } from './egress-rate.ts';
import { Interceptor } from './interceptor.ts';
import { Relay } from './relay.ts';

const HOST = 'api.example.com';
const PLACEHOLDER = placeholderOf('uid', 'KEY');
const VALUE = 's3cret';

interface Seen {
  httpVersion: string;
  url: string;
  headers: IncomingHttpHeaders;
  body: string;
  trailers?: IncomingHttpHeaders;
}

let servers: Authority;
let gateway: Authority;
let port: number;
const received: Seen[] = [];

const server = createSecureServer({
  allowHTTP1: true,
  SNICallback: (name, done) => {
    new LeafIssuer(servers, Date.now).issue(name).then(
      ({ chain, key }) => done(null, createSecureContext({ cert: chain, key })),
      (error: Error) => done(error),
    );
  },
});
server.on('request', (request, response) => {
  const body: Buffer[] = [];
  request.on('data', (chunk: Buffer) => body.push(chunk));
  request.on('end', () => {
    if (!request.complete || request.destroyed || ('aborted' in request && request.aborted)) return;
    const { httpVersion, url, headers } = request;
    received.push({
      httpVersion,
      url: url ?? '',
      headers,
      body: Buffer.concat(body).toString(),
      trailers: request.trailers,
    });
    response.setHeader('set-cookie', ['a=1', 'b=2']);
    if (url === '/trailers') {
      response.write('x');
      response.addTrailers({ 'grpc-status': '0' });
    }
    response.end('fine');
  });
});

before(async () => {
  [servers, gateway] = await Promise.all([
    createAuthority('servers', Date.now()),
    createAuthority('gateway', Date.now()),
  ]);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  port = (server.address() as AddressInfo).port;
});
after(() => server.close());

/** Where a guest's connections come in that go to the server. */
async function relayed(
  t: TestContext,
  options: { trusts?: boolean; tls?: object; secret?: string | undefined } = {},
) {
  const reports: string[] = [];
  const effective = {
    ...effectiveOf({
      egress: { mode: 'AllowAll' },
      tls: { intercept: true, interceptedPorts: [443], ...options.tls },
    }),
  };
  const policy = {
    ...effective,
    tls: {
      ...effective.tls,
      secretHosts: [HOST],
      upstreamCAs: options.trusts === false ? [] : [servers.certificate],
    },
  };
  const interceptor = new Interceptor(new LeafCache(Date.now), policy);
  const secret = {
    ...{ env: 'KEY', placeholder: PLACEHOLDER, allowHosts: [HOST] },
    injectInto: ['Headers', 'Query', 'Body'] as const,
  };
  interceptor.set(policy, { authority: gateway, secrets: [{ ...secret, value: options.secret ?? VALUE }] });
  const relays: Relay[] = [];
  let open = 0;
  const front = createServer({ allowHalfOpen: true }, (client) => {
    open += 1;
    const relay = new Relay({
      ...{ client, interceptor, rate: new EgressRate(systemClock) },
      flow: { ...flow('20.0.0.10'), port: 443 },
      target: { host: '127.0.0.1', port },
      decide: (seen) => decideFlow(policy, seen),
      report: (result, by) => reports.push(by === undefined ? result : `${result}: ${explain(by)}`),
      count: () => {},
      closed: () => (open -= 1),
    });
    relays.push(relay);
    relay.start();
  }).listen(0, '127.0.0.1');
  await once(front, 'listening');
  t.after(() => {
    front.close();
    for (const relay of relays) relay.cut();
  });
  received.length = 0;
  const address = { host: '127.0.0.1', port: (front.address() as AddressInfo).port };
  return { address, reports, relays, interceptor, policy, open: () => open };
}

function tlsOf(address: { host: string; port: number }, more: object = {}): TLSSocket {
  const socket = connectTls({ ...address, servername: HOST, ca: gateway.certificate, ...more });
  socket.on('error', () => {});
  return socket;
}

async function http1(
  address: { host: string; port: number },
  options: { path?: string; headers?: Record<string, string>; body?: string; servername?: string } = {},
): Promise<{ status: number; text: string; cookies: string[] | undefined }> {
  const { path = '/', headers = {}, body, servername = HOST } = options;
  const request = httpsRequest({
    ...{
      ...address,
      path,
      servername,
      ca: gateway.certificate,
      method: body === undefined ? 'GET' : 'POST',
      agent: false,
    },
    headers: { host: HOST, ...headers },
  });
  request.end(body);
  const [response] = (await once(request, 'response')) as [import('node:http').IncomingMessage];
  let text = '';
  for await (const chunk of response) text += String(chunk);
  return { status: response.statusCode ?? 0, text, cookies: response.headers['set-cookie'] };
}

async function http2(
  t: TestContext,
  address: { host: string; port: number },
  requests: readonly { headers: Record<string, string>; body?: string }[],
) {
  const session = connectHttp2(`https://${HOST}`, {
    createConnection: () => tlsOf(address, { ALPNProtocols: ['h2'] }),
  });
  t.after(() => session.destroy());
  session.on('error', () => {});
  return Promise.all(
    requests.map(async ({ headers, body }) => {
      const stream = session.request({
        ':path': '/',
        ':method': body === undefined ? 'GET' : 'POST',
        ...headers,
      });
      stream.on('error', () => {});
      let trailers: IncomingHttpHeaders | undefined;
      stream.on('trailers', (each) => (trailers = each));
      stream.end(body);
      let status: number | undefined;
      stream.on('response', (each) => (status = each[':status']));
      let text = '';
      try {
        for await (const chunk of stream) text += String(chunk);
      } catch {
        text = 'cut';
      }
      return { status, text, trailers };
    }),
  );
}

test('a request of HTTP/1.1 carries the value where the guest wrote the placeholder', async (t) => {
  const { address, reports } = await relayed(t);
  const answer = await http1(address, {
    path: `/?k=${PLACEHOLDER}`,
    headers: { authorization: `Bearer ${PLACEHOLDER}` },
    body: `[${PLACEHOLDER}]`,
  });
  assert.deepEqual(answer, { status: 200, text: 'fine', cookies: ['a=1', 'b=2'] });
  const [seen] = received;
  assert.equal(seen?.httpVersion, '1.1');
  assert.equal(seen?.url, `/?k=${VALUE}`);
  assert.equal(seen?.headers.authorization, `Bearer ${VALUE}`);
  assert.equal(seen?.body, `[${VALUE}]`);
  assert.ok(reports.includes('Secret/Substituted: secret KEY was put into a request'));
});

test('requests of HTTP/2 go side by side, with values, bodies and trailers', async (t) => {
  const { address } = await relayed(t);
  const big = 'x'.repeat(3_000_000);
  const answers = await http2(t, address, [
    { headers: { authorization: `Bearer ${PLACEHOLDER}` } },
    { headers: { ':path': `/q?k=${PLACEHOLDER}` }, body: `[${PLACEHOLDER}]` },
    { headers: { ':path': '/big' }, body: big },
    { headers: { ':path': '/trailers' } },
  ]);
  assert.deepEqual(
    answers.map(({ status, text }) => [status, text]),
    [
      [200, 'fine'],
      [200, 'fine'],
      [200, 'fine'],
      [200, 'xfine'],
    ],
  );
  assert.equal(answers[3]?.trailers?.['grpc-status'], '0');
  const by = (url: string) => received.find((each) => each.url.startsWith(url));
  assert.ok(received.every(({ httpVersion }) => httpVersion === '2.0'));
  assert.equal(received.find(({ url }) => url === '/')?.headers.authorization, `Bearer ${VALUE}`);
  assert.equal(by('/q')?.url, `/q?k=${VALUE}`);
  assert.equal(by('/q')?.body, `[${VALUE}]`);
  assert.equal(by('/big')?.body.length, big.length);
});

test('a placeholder for another host than the connection is for is not replaced, and does not leave', async (t) => {
  const { address, reports } = await relayed(t);
  await assert.rejects(
    http1(address, { headers: { host: 'other.example.com', authorization: PLACEHOLDER } }),
  );
  const [answer] = await http2(t, address, [
    { headers: { ':authority': 'other.example.com', authorization: PLACEHOLDER } },
  ]);
  assert.equal(answer?.status, 421);
  assert.equal(received.length, 0);
  assert.equal(reports.filter((each) => each.startsWith('Secret/Blocked')).length, 2);
});

test('a request of HTTP/2 whose host can be read in two ways is refused', async (t) => {
  const { address } = await relayed(t);
  const answers = await http2(t, address, [
    { headers: { ':authority': HOST, host: 'other.example.com' } },
    { headers: { ':authority': HOST, host: HOST.toUpperCase() } },
  ]);
  assert.deepEqual(
    answers.map(({ status }) => status),
    [421, 200],
  );
  assert.equal(received.length, 1);
});

test('a placeholder in pieces of a body that it is not for ends the connection', async (t) => {
  const { address, interceptor, policy, reports } = await relayed(t);
  interceptor.set(policy, {
    authority: gateway,
    secrets: [
      { env: 'KEY', placeholder: PLACEHOLDER, value: VALUE, allowHosts: [HOST], injectInto: ['Headers'] },
    ],
  });
  const body = 'y'.repeat(16_370) + PLACEHOLDER + 'y'.repeat(100_000);
  await assert.rejects(http1(address, { body }));
  const [answer] = await http2(t, address, [{ headers: {}, body }]);
  assert.notEqual(answer?.status, 200);
  assert.equal(received.length, 0);
  assert.equal(reports.filter((each) => each.startsWith('Secret/Blocked')).length, 2);
});

test('a server that nobody vouches for is refused', async (t) => {
  const { address, reports } = await relayed(t, { trusts: false, tls: { verifyUpstream: false } });
  await assert.rejects(http1(address), 'secrets go to nobody who cannot prove to be their host');
  assert.match(reports.join(), /TLS\/Refused: the server's TLS for api\.example\.com is not trusted/);
  // Another host may be what it wants where the policy has it so.
  assert.equal(
    (await http1(address, { servername: 'x.example', headers: { host: 'x.example' } })).status,
    200,
  );
});

test('a client that does not trust the gateway is told of', async (t) => {
  const { address, reports, open } = await relayed(t);
  const socket = tlsOf(address, { ca: servers.certificate });
  await new Promise((resolve) => socket.on('close', resolve));
  while (open() > 0) await new Promise((resolve) => setImmediate(resolve));
  assert.match(
    reports.join(),
    /TLS\/Refused: the client refused the gateway's certificate for api\.example\.com/,
  );
});

test('another protocol than HTTP passes, and ends as its ends do', async (t) => {
  const { address, reports } = await relayed(t);
  const socket = tlsOf(address);
  await once(socket, 'secureConnect');
  socket.write('NOOP\r\n\r\n');
  const [answer] = (await once(socket, 'data')) as [Buffer];
  assert.match(answer.toString(), /^HTTP\/1.1 400/, 'the server is no other');
  assert.ok(reports.some((each) => each.startsWith('Flow/Allowed')));
});

test('what is open is cut when the policy no longer opens it', async (t) => {
  const { address, relays, interceptor, policy, reports } = await relayed(t);
  const socket = tlsOf(address);
  await once(socket, 'secureConnect');
  socket.write('NOOP\r\n\r\n');
  await once(socket, 'data');
  relays[0]?.reconsider();
  assert.equal(
    reports.some((each) => each.startsWith('Flow/Cut')),
    false,
  );
  interceptor.set({ ...policy, tls: { ...policy.tls, secretHosts: [], interceptions: [] } }, { secrets: [] });
  relays[0]?.reconsider();
  assert.equal(
    reports.some((each) => each.startsWith('Flow/Cut')),
    true,
  );
});
