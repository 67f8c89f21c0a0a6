// ClientHellos for tests, right and wrong.

/** The bytes behind their length of `size` bytes. */
export function vector(size: 1 | 2 | 3, bytes: Buffer): Buffer {
  const length = Buffer.alloc(size);
  length.writeUIntBE(bytes.length, 0, size);
  return Buffer.concat([length, bytes]);
}

export function extension(type: number, value: Buffer): Buffer {
  const header = Buffer.alloc(2);
  header.writeUInt16BE(type);
  return Buffer.concat([header, vector(2, value)]);
}

export function serverName(name: string): Buffer {
  return extension(0, vector(2, Buffer.concat([Buffer.from([0]), vector(2, Buffer.from(name, 'latin1'))])));
}

/** The handshake message; without any list of extensions where none is given. */
export function clientHello(extensions: readonly Buffer[] | undefined): Buffer {
  const body = Buffer.concat([
    Buffer.from([3, 3]),
    Buffer.alloc(32, 7),
    vector(1, Buffer.alloc(32, 8)),
    vector(2, Buffer.from([0x13, 0x01])),
    vector(1, Buffer.from([0])),
    ...(extensions === undefined ? [] : [vector(2, Buffer.concat(extensions))]),
  ]);
  return Buffer.concat([Buffer.from([1]), vector(3, body)]);
}

/** In records of at most so many bytes. */
export function records(handshake: Buffer, size = 16_384): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < handshake.length; at += size) {
    parts.push(Buffer.from([22, 3, 1]), vector(2, handshake.subarray(at, at + size)));
  }
  return Buffer.concat(parts);
}
