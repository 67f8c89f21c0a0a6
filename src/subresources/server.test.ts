// The way from a front proxy through a controller to a node's agent, with real certificates; guests are fakes.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { after, before, describe, it } from 'node:test';
import type { TLSSocket } from 'node:tls';
import { WebSocket } from 'ws';
import { BulkheadError } from '../api/errors.ts';
import type { Status } from '../api/status.ts';
import { CONTROLLER_CLIENT_NAME } from '../server/cluster-listener.ts';
import type { MutualTls } from '../server/mutual-tls.ts';
import { sandboxDocument } from '../server/testing/harness.ts';
import { type Answer, ask, Issuer, nextOf, upgrade } from './testing/tls.ts';
import { BASE, NODE, USER, Way } from './testing/way.ts';

const BOX = `${BASE}/namespaces/default/sandboxes/box`;
const DAEMON = '/apis/bulkhead.dev/v1alpha1/namespaces/default/sandboxes/box';

let way: Way;
let tls: MutualTls;

before(async () => {
  way = await Way.start();
  tls = await way.frontProxy();
  await way.agent.store.create({
    ...sandboxDocument('box'),
    metadata: { name: 'box', namespace: 'default' },
  });
});

after(() => way?.[Symbol.asyncDispose]());

function viaProxy(
  path: string,
  more: { method?: string; body?: string; headers?: Record<string, string> } = {},
) {
  const { headers = {}, ...rest } = more;
  return ask({
    port: way.server.port,
    path: `${BOX}${path}`,
    tls,
    ...rest,
    headers: { ...USER, ...headers },
  });
}

/** The same request as the daemon's own socket answers it. */
async function direct(
  path: string,
  method = 'GET',
  headers: Record<string, string> = {},
  body?: string,
): Promise<Answer> {
  const asked = httpRequest({ socketPath: way.agent.socketPath, path: `${DAEMON}${path}`, method, headers });
  asked.end(body);
  const [answer] = await once(asked, 'response');
  const text = (await answer.toArray()).join('');
  return { status: answer.statusCode, headers: answer.headers, text };
}

function exec(query: string, headers: Record<string, string> = USER): WebSocket {
  const url = `wss://127.0.0.1:${way.server.port}${BOX}/exec?${query}`;
  const { cert, key } = tls;
  return new WebSocket(url, 'v5.channel.k8s.io', { cert, key, headers, rejectUnauthorized: false });
}

describe('the API of subresources', () => {
  it('answers what the daemon answers', async () => {
    way.agent.sandboxes.agent.files.entries.set('/f', {
      kind: 'file',
      data: Buffer.from('text'),
      mode: 0o644,
    });
    const same = [
      ...['/files/content?path=/f', '/files/content?path=/gone', '/files/stat?path=/f', '/files/list?path=/'],
      ...['/log', '/log?tailLines=x', '/exec', '/effectivepolicy', '/flows', '/files/nonsense'],
    ];
    for (const path of same) {
      const [here, there] = [await viaProxy(path), await direct(path)];
      assert.deepEqual([here.status, here.text], [there.status, there.text], path);
      assert.equal(here.headers['content-type'], there.headers['content-type'], path);
    }
    assert.equal((await viaProxy('/stats')).status, 200);
    const gone = await ask({
      ...{ port: way.server.port, tls, headers: USER },
      path: `${BASE}/namespaces/default/sandboxes/nobody/stats`,
    });
    assert.match(gone.text, /sandboxes\.bulkhead\.dev \\"nobody\\" not found/);
  });

  it('takes bodies of each form', async () => {
    const type = { 'content-type': 'application/octet-stream' };
    const content = 'x'.repeat(3_000_000);
    const put = await viaProxy('/files/content?path=/big', { method: 'PUT', body: content, headers: type });
    assert.equal(put.status, 200, put.text);
    assert.equal((await viaProxy('/files/content?path=/big')).text, content);
    const json = { 'content-type': 'application/json' };
    const made = await viaProxy('/files/mkdir', { method: 'POST', body: '{"path":"/d"}', headers: json });
    assert.equal(made.status, 200, made.text);
    const [here, there] = [
      await viaProxy('/files/mkdir', { method: 'POST', body: '{"path":', headers: json }),
      await direct('/files/mkdir', 'POST', json, '{"path":'),
    ];
    assert.deepEqual([here.status, here.text], [there.status, there.text]);
  });

  it('breaks an answer off where the agent breaks it off', async () => {
    way.agent.sandboxes.agent.files.entries.set('/bad', {
      kind: 'file',
      data: Buffer.from('part'),
      mode: 0o644,
    });
    way.agent.sandboxes.agent.files.broken.add('/bad');
    await assert.rejects(viaProxy('/files/content?path=/bad'), { code: 'ECONNRESET' });
  });

  it('carries an exec with its input, and its end', async () => {
    const socket = exec('command=cat&stdin=true');
    const pieces: string[] = [];
    let exit: Status | undefined;
    socket.on('message', (data: Buffer) => {
      if (data[0] === 1) pieces.push(data.subarray(1).toString());
      if (data[0] === 3) exit = JSON.parse(data.subarray(1).toString()) as Status;
    });
    await once(socket, 'open');
    const sent = 'line\n'.repeat(50_000);
    for (let at = 0; at < sent.length; at += 50_000)
      socket.send(Buffer.concat([Buffer.of(0), Buffer.from(sent.slice(at, at + 50_000))]));
    socket.send(Buffer.of(255, 0));
    await once(socket, 'close');
    assert.equal(pieces.join(''), sent);
    assert.equal(exit?.status, 'Success');
  });

  it('refuses a stream as the daemon does, before there is one', async () => {
    const answered = await upgrade({
      port: way.server.port,
      path: `${BOX}/exec?command=true`,
      tls,
      headers: USER,
    });
    assert.equal(answered.status, 400);
    answered.socket.destroy();
    way.agent.sandboxes.stopped.add('box');
    try {
      const socket = exec('command=true');
      const [, answer] = await once(socket, 'unexpected-response');
      const status = JSON.parse((await answer.toArray()).join('')) as Status;
      assert.deepEqual([answer.statusCode, status.reason], [409, 'SandboxNotRunning']);
    } finally {
      way.agent.sandboxes.stopped.delete('box');
    }
  });

  it('tells what it serves', async () => {
    const get = async (path: string) =>
      JSON.parse((await ask({ port: way.server.port, path, tls, headers: USER })).text);
    assert.equal((await get('/apis')).groups[0].name, 'subresources.bulkhead.dev');
    assert.equal((await get('/apis/subresources.bulkhead.dev')).kind, 'APIGroup');
    const { resources } = (await get(BASE)) as { resources: { name: string; verbs: string[] }[] };
    assert.deepEqual(resources.find(({ name }) => name === 'sandboxes/files')?.verbs, [
      'create',
      'get',
      'update',
    ]);
    assert.equal((await get('/openapi/v2')).code, 404);
  });

  it('lets in the front proxy alone', async () => {
    const strangers = await Issuer.create('strangers');
    const path = `${BOX}/stats`;
    const { port } = way.server;
    const refused: [string, Parameters<typeof ask>[0]][] = [
      ['nobody', { port, path, headers: USER }],
      [
        'of another authority',
        { port, path, headers: USER, tls: await strangers.leaf('front-proxy', { usage: 'client' }) },
      ],
      ['of another name', { port, path, headers: USER, tls: await way.frontProxy('other') }],
      ['no client', { port, path, headers: USER, tls: await way.frontProxies.leaf('front-proxy') }],
      ['in no name', { port, path, tls }],
      ['in an empty name', { port, path, tls, headers: { 'x-remote-user': '' } }],
    ];
    for (const [who, asked] of refused) {
      for (const where of [path, BASE, '/apis', '/nowhere']) {
        const { status, text } = await ask({ ...asked, path: where });
        assert.deepEqual(
          [status, (JSON.parse(text) as Status).reason],
          [401, 'Unauthorized'],
          `${who} ${where}`,
        );
      }
      const stream = await upgrade({ ...asked, path: `${BOX}/exec?command=true` });
      assert.equal(stream.status, 401, who);
      stream.socket.destroy();
    }
    assert.equal((await ask({ port, path: '/healthz' })).status, 200);
  });

  it('believes from one moment on whom it is told to believe', async () => {
    const others = await Issuer.create('other front proxies');
    const [certificate, otherTls] = [
      await way.serving.leaf('controller.test.svc'),
      await others.leaf('front-proxy', { usage: 'client' }),
    ];
    const trust = { allowedNames: ['front-proxy'], userHeaders: ['x-remote-user'] };
    const path = `${BOX}/stats`;
    const { port } = way.server;
    way.server.renew({ ...certificate, trust: { ...trust, ca: others.ca } });
    assert.equal((await viaProxy('/stats')).status, 401);
    assert.equal((await ask({ port, path, tls: otherTls, headers: USER })).status, 200);
    way.server.renew({ ...certificate, trust: { ...trust, ca: way.frontProxies.ca } });
    assert.equal((await viaProxy('/stats')).status, 200);
  });
});

describe("a node's agent", () => {
  it('lets in controllers alone, and to subresources alone', async () => {
    const { port } = way.agent.server.forCluster;
    const strangers = await Issuer.create('strangers');
    const controller = await way.nodes.leaf(CONTROLLER_CLIENT_NAME, { usage: 'client' });
    const refused: [string, Partial<MutualTls>][] = [
      ['nobody', {}],
      ['of another authority', await strangers.leaf(CONTROLLER_CLIENT_NAME, { usage: 'client' })],
      ['a node', await way.nodes.leaf(NODE)],
      ['a node of that name', await way.nodes.leaf(CONTROLLER_CLIENT_NAME)],
      ['a client of another name', await way.nodes.leaf('other', { usage: 'client' })],
      ['the front proxy', tls],
    ];
    for (const [who, with_] of refused)
      await assert.rejects(ask({ port, path: `${DAEMON}/stats`, tls: with_ }), Error, who);
    assert.equal((await ask({ port, path: `${DAEMON}/stats`, tls: controller })).status, 200);
    const group = '/apis/bulkhead.dev/v1alpha1';
    const closed = [
      ...[
        DAEMON,
        `${DAEMON}/status`,
        `${DAEMON}/`,
        `${group}/namespaces/default/sandboxes`,
        `${group}/images`,
      ],
      ...[
        '/api/v1/namespaces/default/secrets',
        '/metrics',
        '/healthz',
        '/apis',
        `${group}/doctor`,
        '/nowhere',
      ],
      ...[`${DAEMON}/exec/../status`, `${DAEMON}/%73tatus`, `${group}/images?${DAEMON}/stats`],
    ];
    for (const path of closed)
      for (const method of ['GET', 'DELETE', 'POST']) {
        const { status } = await ask({ port, path, method, tls: controller });
        assert.equal(status, 404, `${method} ${path}`);
      }
    const stream = await upgrade({ port, path: `${group}/sandboxes?watch=1`, tls: controller });
    assert.equal(stream.status, 404);
    stream.socket.destroy();
  });

  it('that is not the one asked for gets no request', async () => {
    way.locate = async () => ({ nodeName: 'node-b', host: '127.0.0.1' });
    try {
      const { status, text } = await viaProxy('/stats');
      assert.equal(status, 503);
      assert.match(
        text,
        /agent of node \\"node-b\\" does not answer: its certificate is not that of the node/,
      );
      const stream = exec('command=true');
      const [, answer] = await once(stream, 'unexpected-response');
      assert.equal(answer.statusCode, 503);
      answer.resume();
    } finally {
      way.locate = async () => ({ nodeName: NODE, host: '127.0.0.1' });
    }
  });

  it('that has another authority lets former controllers in no more', async () => {
    const others = await Issuer.create('other nodes');
    assert.equal((await viaProxy('/stats')).status, 200);
    way.agent.server.forCluster.renew(await others.leaf(NODE));
    try {
      const { status, text } = await viaProxy('/stats');
      assert.deepEqual([status, (JSON.parse(text) as Status).reason], [503, 'NodeUnreachable']);
      way.proxy.identify(await others.leaf(CONTROLLER_CLIENT_NAME, { usage: 'client' }));
      assert.equal((await viaProxy('/stats')).status, 200);
    } finally {
      way.agent.server.forCluster.renew(await way.nodes.leaf(NODE));
      way.proxy.identify(await way.nodes.leaf(CONTROLLER_CLIENT_NAME, { usage: 'client' }));
    }
  });

  it('whose sandbox is nowhere is not asked', async () => {
    way.locate = async () => {
      throw new BulkheadError('NODE_LOST', 'Node n is silent.');
    };
    try {
      const { status, text } = await viaProxy('/stats');
      assert.deepEqual([status, (JSON.parse(text) as Status).reason], [503, 'NodeLost']);
    } finally {
      way.locate = async () => ({ nodeName: NODE, host: '127.0.0.1' });
    }
  });
});

describe('a stream', () => {
  let agentSide: PromiseWithResolvers<TLSSocket>;
  let bare: Way;
  let bareTls: MutualTls;
  const server = createServer({ requestCert: true, rejectUnauthorized: false, allowHalfOpen: true });

  before(async () => {
    server.on('upgrade', (_request, socket) => {
      socket.write(
        'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly',
      );
      agentSide.resolve(socket as TLSSocket);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    bare = await Way.start({ agentPort: (server.address() as AddressInfo).port });
    const { cert, key } = await bare.nodes.leaf(NODE);
    server.setSecureContext({ cert, key });
    bareTls = await bare.frontProxy();
  });

  after(async () => {
    server.close();
    server.closeAllConnections();
    await bare?.[Symbol.asyncDispose]();
  });

  async function open() {
    agentSide = Promise.withResolvers();
    const client = await upgrade({
      port: bare.server.port,
      path: `${BOX}/attach`,
      tls: bareTls,
      headers: USER,
    });
    assert.equal(client.status, 101);
    const early = client.rest.length > 0 ? client.rest : await nextOf(client.socket);
    assert.equal(early.toString(), 'early');
    return { client: client.socket, agent: await agentSide.promise };
  }

  /** Nothing comes any more, or ever went. */
  function over(socket: TLSSocket): Promise<void> {
    return new Promise((resolve) => {
      for (const event of ['end', 'close', 'error']) socket.on(event, () => resolve());
      socket.resume();
    });
  }

  it('ends its halves one by one', async () => {
    const { client, agent } = await open();
    const ended = once(agent, 'end');
    client.end('last words');
    assert.equal((await nextOf(agent)).toString(), 'last words');
    agent.resume();
    await ended;
    agent.write('an answer all the same');
    assert.equal((await nextOf(client)).toString(), 'an answer all the same');
    const closed = once(client, 'close');
    agent.end();
    client.resume();
    await closed;
  });

  it('holds a sender back whose other side does not read', async () => {
    const { client, agent } = await open();
    const piece = Buffer.alloc(64 * 1024);
    let sent = 0;
    while (sent < 256 * 1024 * 1024) {
      const isTaken = agent.write(piece);
      sent += piece.length;
      if (isTaken) continue;
      const drained = await Promise.race([
        once(agent, 'drain'),
        new Promise((done) => setTimeout(done, 500)),
      ]);
      if (drained === undefined) break;
    }
    // What the kernel's buffers of both connections take, and no more.
    assert.ok(sent < 64 * 1024 * 1024, `${sent} bytes were taken`);
    let got = 0;
    client.on('data', (data: Buffer) => {
      got += data.length;
    });
    client.resume();
    agent.end();
    await once(client, 'end');
    assert.equal(got, sent);
    client.destroy();
  });

  for (const side of ['client', 'agent'] as const)
    it(`ends with its ${side}`, async () => {
      const both = await open();
      const other = side === 'client' ? both.agent : both.client;
      const ended = over(other);
      both[side].destroy();
      await ended;
    });

  it('ends with its controller', async () => {
    const { client, agent } = await open();
    const ended = Promise.all([over(client), over(agent)]);
    bare.proxy.close();
    await ended;
  });
});
