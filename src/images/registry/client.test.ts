import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import {
  composeImage,
  digestOf,
  file,
  INDEX_TYPE,
  MANIFEST_TYPE,
  tar,
} from '../../../test/fixtures/images-compose.ts';
import {
  type FakeRegistry,
  fakeRegistry,
  type Misbehaviour,
} from '../../../test/fixtures/images-fake-registry.ts';
import { BulkheadError, type ErrorCode } from '../../api/errors.ts';
import type { RegistryCredential } from '../images.ts';
import { parseReference } from '../reference.ts';
import { openRegistries, type RegistryClientOptions } from './client.ts';
import type { RemoteImage } from './registry.ts';

const LAYER = tar(file('noise', randomBytes(300_000).toString('latin1')));
const IMAGE = composeImage([LAYER]);
const LAYER_BLOB = [...IMAGE.blobs.keys()][1] ?? '';
const RETRY = { attempts: 4, firstDelayMs: 1 };
const SECRET = 'hunter2-very-secret';

async function withRegistry<T>(
  misbehave: Misbehaviour | undefined,
  work: (registry: FakeRegistry) => Promise<T>,
): Promise<T> {
  await using registry = await fakeRegistry(IMAGE, misbehave);
  return await work(registry);
}

async function resolve<T>(
  registry: FakeRegistry,
  use: (image: RemoteImage) => Promise<T>,
  more: RegistryClientOptions & {
    name?: string;
    credentials?: RegistryCredential[];
    signal?: AbortSignal;
  } = {},
): Promise<T> {
  const registries = openRegistries({ retry: RETRY, ...more });
  try {
    const reference = parseReference(`${registry.host}/${more.name ?? 't/image'}`);
    const signal = more.signal ?? new AbortController().signal;
    return await use(await registries.resolve(reference, more.credentials ?? [], signal));
  } finally {
    await registries.close();
  }
}

const digest = (image: RemoteImage): Promise<string> => Promise.resolve(image.digest);

async function fetchLayer(image: RemoteImage): Promise<Buffer> {
  const work = await mkdtemp(join(tmpdir(), 'bulkhead-blob-'));
  try {
    let bytes = 0;
    await image.fetchLayer(0, join(work, 'blob'), new AbortController().signal, (more) => {
      bytes += more;
    });
    const blob = await readFile(join(work, 'blob'));
    assert.equal(bytes, blob.length, 'progress counts each byte once, whatever was repeated');
    return blob;
  } finally {
    await rm(work, { recursive: true });
  }
}

function fails(code: ErrorCode, message: RegExp = /./): (error: unknown) => true {
  return (error) => {
    assert.ok(error instanceof BulkheadError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    assert.ok(
      !JSON.stringify([error.message, String(error.cause)]).includes(SECRET),
      'no secret in the message',
    );
    return true;
  };
}

const answer = (response: ServerResponse, status: number, headers: Record<string, string> = {}): true => {
  response.writeHead(status, headers).end(`{"errors":[{"message":"${SECRET}"}]}`);
  return true;
};

describe('registries', () => {
  it('a tag gives manifest, configuration and layers', () =>
    withRegistry(undefined, (registry) =>
      resolve(registry, async (image) => {
        assert.equal(image.digest, IMAGE.manifestDigest);
        assert.deepEqual(image.config.diffIds, [digestOf(LAYER)]);
        assert.deepEqual(await fetchLayer(image), IMAGE.blobs.get(LAYER_BLOB));
      }),
    ));

  it('a digest is fetched by digest, and anything else under it refused', async () => {
    const name = `t/image@${IMAGE.manifestDigest}`;
    await withRegistry(undefined, async (registry) => {
      assert.equal(await resolve(registry, digest, { name }), IMAGE.manifestDigest);
      registry.manifests.set(IMAGE.manifestDigest, {
        type: MANIFEST_TYPE,
        bytes: Buffer.from(`${IMAGE.manifest} `),
      });
      await assert.rejects(resolve(registry, digest, { name }), fails('IMAGE_INVALID', /has the digest/));
    });
  });

  it('an index gives the manifest for this platform', () =>
    withRegistry(undefined, async (registry) => {
      const other = {
        mediaType: MANIFEST_TYPE,
        digest: digestOf(Buffer.from('x')),
        size: 1,
        platform: { os: 'linux', architecture: 's390x' },
      };
      const ours = {
        mediaType: MANIFEST_TYPE,
        digest: IMAGE.manifestDigest,
        size: IMAGE.manifest.length,
        platform: { os: 'linux', architecture: 'amd64' },
      };
      const index = (manifests: unknown[]): { type: string; bytes: Buffer } => ({
        type: INDEX_TYPE,
        bytes: Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: INDEX_TYPE, manifests })),
      });
      registry.manifests.set('latest', index([other, ours]));
      assert.equal(await resolve(registry, digest), IMAGE.manifestDigest);
      registry.manifests.set('latest', index([other]));
      await assert.rejects(
        resolve(registry, digest),
        fails('IMAGE_NOT_FOUND', /nothing for linux\/amd64, only "linux\/s390x"/),
      );
    }));

  const statuses: [status: number, code: ErrorCode, requests: number][] = [
    [400, 'IMAGE_INVALID', 1],
    [401, 'REGISTRY_UNAUTHORIZED', 1],
    [403, 'REGISTRY_UNAUTHORIZED', 1],
    [404, 'IMAGE_NOT_FOUND', 1],
    [429, 'REGISTRY_UNAVAILABLE', RETRY.attempts],
    [500, 'REGISTRY_UNAVAILABLE', RETRY.attempts],
    [503, 'REGISTRY_UNAVAILABLE', RETRY.attempts],
  ];
  for (const [status, code, requests] of statuses) {
    it(`status ${status} is ${code} after ${requests} requests`, () =>
      withRegistry(
        (request, response) => (request.url?.includes('/manifests/') ? answer(response, status) : false),
        async (registry) => {
          await assert.rejects(resolve(registry, digest), fails(code));
          assert.equal(registry.requests.filter((line) => line.includes('/manifests/')).length, requests);
        },
      ));
  }

  it('a registry that recovers is found again', () => {
    let failures = 3;
    return withRegistry(
      (_, response) => failures-- > 0 && answer(response, 503, { 'retry-after': '0' }),
      async (registry) => assert.equal(await resolve(registry, digest), IMAGE.manifestDigest),
    );
  });

  it('a registry that is down is REGISTRY_UNAVAILABLE', async () => {
    const registry = await fakeRegistry(IMAGE);
    await registry[Symbol.asyncDispose]();
    await assert.rejects(resolve(registry, digest), fails('REGISTRY_UNAVAILABLE', /ECONNREFUSED/));
  });

  it('a pull that is aborted ends with the reason', () => {
    const abort = new AbortController();
    const reason = new Error('no longer wanted');
    return withRegistry(
      (request) => {
        if (!request.url?.includes('/manifests/')) return false;
        abort.abort(reason);
        return true;
      },
      (registry) => assert.rejects(resolve(registry, digest, { signal: abort.signal }), reason),
    );
  });

  for (const [what, bytes, message] of [
    ['no JSON', Buffer.from('<html>'), /is not JSON/],
    ['a list', Buffer.from('[]'), /not an object/],
    ['schema version 1', Buffer.from('{"schemaVersion":1}'), /schemaVersion/],
    [
      'another kind of artifact',
      Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: 'application/vnd.cncf.helm' })),
      /which is no image/,
    ],
    ['5 MiB', Buffer.alloc(5 << 20, 0x20), /more than 4194304 bytes/],
    [
      'a climbing digest',
      Buffer.from(
        JSON.stringify({
          schemaVersion: 2,
          config: { mediaType: MANIFEST_TYPE, digest: 'sha256:../../x', size: 1 },
        }),
      ),
      /not a sha256 digest/,
    ],
  ] as const) {
    it(`a manifest that is ${what} is refused`, () =>
      withRegistry(undefined, async (registry) => {
        registry.manifests.set('latest', { type: MANIFEST_TYPE, bytes });
        await assert.rejects(resolve(registry, digest), fails('IMAGE_INVALID', message));
      }));
  }
});

describe('layers from registries', () => {
  const onLayer = (
    act: (count: number, response: ServerResponse, range: string | undefined) => boolean,
  ): Misbehaviour => {
    let count = 0;
    return (request, response) =>
      request.url?.includes(LAYER_BLOB) === true && act(++count, response, request.headers.range);
  };
  const blob = IMAGE.blobs.get(LAYER_BLOB) ?? Buffer.alloc(0);
  /** Sends the start of the blob, and cuts the line when it has left. */
  const cut = (response: ServerResponse, start: number, end: number): true => {
    response.writeHead(start > 0 ? 206 : 200, {
      'content-length': String(blob.length - start),
      ...(start > 0 ? { 'content-range': `bytes ${start}-${blob.length - 1}/${blob.length}` } : {}),
    });
    response.write(blob.subarray(start, end), () => setImmediate(() => response.socket?.resetAndDestroy()));
    return true;
  };

  it('a broken transfer goes on where it stopped', () => {
    const ranges: (string | undefined)[] = [];
    return withRegistry(
      onLayer((count, response, range) => {
        ranges.push(range);
        return count === 1 && cut(response, 0, 100_000);
      }),
      async (registry) => {
        assert.deepEqual(await resolve(registry, fetchLayer), blob);
        assert.equal(ranges.length, 2);
        assert.match(ranges[1] ?? '', /^bytes=\d+-$/);
      },
    );
  });

  it('a registry that knows no ranges is read from the start again', () =>
    withRegistry(
      onLayer((count, response) => {
        if (count === 1) return cut(response, 0, 100_000);
        response.end(blob);
        return true;
      }),
      async (registry) => assert.deepEqual(await resolve(registry, fetchLayer), blob),
    ));

  it('a transfer that always breaks is REGISTRY_UNAVAILABLE', () =>
    withRegistry(
      onLayer((count, response) => cut(response, 0, count * 1000)),
      (registry) => assert.rejects(resolve(registry, fetchLayer), fails('REGISTRY_UNAVAILABLE')),
    ));

  it('a blob damaged on its way is fetched again', () =>
    withRegistry(
      onLayer((count, response) => {
        if (count > 1) return false;
        response.end(Buffer.alloc(blob.length));
        return true;
      }),
      async (registry) => assert.deepEqual(await resolve(registry, fetchLayer), blob),
    ));

  it('a blob damaged for good is refused by its digest', () =>
    withRegistry(undefined, (registry) => {
      registry.blobs.set(LAYER_BLOB, Buffer.alloc(blob.length));
      return assert.rejects(resolve(registry, fetchLayer), fails('IMAGE_INVALID', /arrives with the digest/));
    }));

  it('a blob longer than announced is cut off and refused', () =>
    withRegistry(undefined, (registry) => {
      registry.blobs.set(LAYER_BLOB, Buffer.concat([blob, Buffer.alloc(1 << 20)]));
      return assert.rejects(
        resolve(registry, fetchLayer),
        fails('IMAGE_INVALID', /more than the \d+ bytes announced/),
      );
    }));

  it('a blob shorter than announced is REGISTRY_UNAVAILABLE', () =>
    withRegistry(undefined, (registry) => {
      registry.blobs.set(LAYER_BLOB, blob.subarray(0, 1000));
      return assert.rejects(resolve(registry, fetchLayer), fails('REGISTRY_UNAVAILABLE'));
    }));

  it('a missing blob is IMAGE_NOT_FOUND', () =>
    withRegistry(undefined, (registry) => {
      registry.blobs.delete(LAYER_BLOB);
      return assert.rejects(resolve(registry, fetchLayer), fails('IMAGE_NOT_FOUND'));
    }));
});

describe('authorisation', () => {
  const credential = (registry: FakeRegistry): RegistryCredential[] => [
    { registry: registry.host, username: 'u', password: SECRET },
  ];
  const basic = `Basic ${Buffer.from(`u:${SECRET}`).toString('base64')}`;
  const demandBasic: Misbehaviour = (request, response) =>
    request.headers.authorization !== basic &&
    answer(response, 401, { 'www-authenticate': 'Basic realm="r"' });

  it('Basic, with the credential of this registry', () =>
    withRegistry(demandBasic, async (registry) => {
      assert.equal(
        await resolve(registry, digest, { credentials: credential(registry) }),
        IMAGE.manifestDigest,
      );
    }));

  it('no credential, a wrong one, and one for another registry are REGISTRY_UNAUTHORIZED', () =>
    withRegistry(demandBasic, async (registry) => {
      const wrong = [{ registry: registry.host, username: 'u', password: `${SECRET}x` }];
      const others = [{ registry: 'other.example', username: 'u', password: SECRET }];
      for (const credentials of [[], wrong, others]) {
        await assert.rejects(resolve(registry, digest, { credentials }), fails('REGISTRY_UNAUTHORIZED'));
      }
      assert.ok(!registry.authorizations.includes(basic), 'a credential goes to its own registry only');
    }));

  /** Registry and token server in one. */
  const bearer =
    (tokenStatus = 200): Misbehaviour =>
    (request, response, registry) => {
      if (request.url?.startsWith('/token')) {
        if (tokenStatus !== 200) return answer(response, tokenStatus);
        const url = new URL(request.url, 'http://x');
        assert.equal(url.searchParams.get('scope'), 'repository:t/image:pull');
        assert.equal(url.searchParams.get('service'), 'the service');
        response.end(
          JSON.stringify({
            token: request.headers.authorization === basic ? 'private' : 'public',
            expires_in: 300,
          }),
        );
        return true;
      }
      if (request.headers.authorization === 'Bearer private') return false;
      const realm = `http://${registry.host}/token`;
      return answer(response, 401, {
        'www-authenticate': `Bearer realm="${realm}",service="the service",scope="x"`,
      });
    };

  it('Bearer: the token server gets the credential, the registry the token', () =>
    withRegistry(bearer(), async (registry) => {
      const { host } = registry;
      await resolve(registry, fetchLayer, { credentials: credential(registry) });
      const tokens = registry.requests.filter((line) => line.includes('/token'));
      assert.equal(tokens.length, 1, `one token serves the whole pull from ${host}`);
      registry.requests.forEach((line, i) => {
        assert.equal(registry.authorizations[i] === basic, line.includes('/token'), line);
      });
    }));

  it('Bearer: a token that does not open the image is REGISTRY_UNAUTHORIZED', () =>
    withRegistry(bearer(), (registry) =>
      assert.rejects(resolve(registry, digest), fails('REGISTRY_UNAUTHORIZED')),
    ));

  it('Bearer: a token server that refuses is REGISTRY_UNAUTHORIZED, one that is down REGISTRY_UNAVAILABLE', async () => {
    await withRegistry(bearer(401), (registry) =>
      assert.rejects(
        resolve(registry, digest, { credentials: credential(registry) }),
        fails('REGISTRY_UNAUTHORIZED'),
      ),
    );
    await withRegistry(bearer(503), (registry) =>
      assert.rejects(
        resolve(registry, digest, { credentials: credential(registry) }),
        fails('REGISTRY_UNAVAILABLE'),
      ),
    );
  });

  it('a redirect to another host loses the credential, one on the same host keeps it', async () => {
    await using storage = await fakeRegistry(IMAGE, (request) => {
      request.url = request.url?.replace('/signed', '/v2/t/image');
      return false;
    });
    const redirect: Misbehaviour = (request, response, registry) => {
      if (demandBasic(request, response, registry)) return true;
      if (!request.url?.includes(LAYER_BLOB)) return false;
      if (!request.url.includes('?hop')) return answer(response, 307, { location: `${request.url}?hop` });
      return answer(response, 302, { location: `http://${storage.host}/signed/blobs/${LAYER_BLOB}` });
    };
    await withRegistry(redirect, async (registry) => {
      await resolve(registry, fetchLayer, { credentials: credential(registry) });
      assert.ok(registry.requests.some((line) => line.endsWith('?hop')));
    });
    assert.deepEqual(storage.authorizations, [undefined]);
  });

  for (const [what, location] of [
    ['without end', '/v2/t/image/manifests/latest'],
    ['to a file', 'file:///etc/passwd'],
    ['to a URL with a password', 'http://u:p@127.0.0.1/'],
    ['to nowhere', 'http://'],
  ] as const) {
    it(`a redirect ${what} is refused`, () =>
      withRegistry(
        (request, response) =>
          request.url?.includes('/manifests/') === true && answer(response, 307, { location }),
        (registry) => assert.rejects(resolve(registry, digest), fails('IMAGE_INVALID', /redirects/)),
      ));
  }
});

describe('mirrors', () => {
  it('a mirror answers first, and the registry is not asked', () =>
    withRegistry(undefined, async (registry) => {
      await using mirror = await fakeRegistry(IMAGE);
      const mirrors = { [registry.host]: [`http://${mirror.host}`] };
      assert.equal(await resolve(registry, digest, { mirrors }), IMAGE.manifestDigest);
      assert.deepEqual(registry.requests, []);
    }));

  it('what a mirror lacks or fails at comes from the registry', () =>
    withRegistry(undefined, async (registry) => {
      await using broken = await fakeRegistry(IMAGE, (_, response) => answer(response, 500));
      await using empty = await fakeRegistry(IMAGE, (_, response) => answer(response, 404));
      const mirrors = { [registry.host]: [`http://${broken.host}`, `http://${empty.host}`] };
      assert.equal(await resolve(registry, digest, { mirrors }), IMAGE.manifestDigest);
      assert.ok(empty.requests.length > 0);
    }));
});

it('plain http is for loopback, unless it is allowed', async () => {
  const { hostsOf } = await import('./hosts.ts');
  assert.deepEqual(hostsOf('registry.example', {})[0]?.origins, ['https://registry.example']);
  assert.deepEqual(hostsOf('127.0.0.1.example', {})[0]?.origins, ['https://127.0.0.1.example']);
  assert.equal(hostsOf('localhost:5000', {})[0]?.origins.length, 2);
  assert.equal(hostsOf('[::1]:5000', {})[0]?.origins.length, 2);
  assert.equal(hostsOf('registry.example', { plainHttp: ['registry.example'] })[0]?.origins.length, 2);
});
