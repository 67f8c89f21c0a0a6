// Random damage to what an agent says: it is taken, or the guest broke the protocol, and nothing else.
import assert from 'node:assert/strict';
import { damaged, fuzz, type Pick } from '../../test/fixtures/chance.ts';
import { BulkheadError } from '../api/errors.ts';
import { decodeMessage } from './connection.ts';
import { FileEntryDecoder } from './file-entries.ts';
import { FrameDecoder } from './frames.ts';
import { FailureCode, type GuestMessage } from './generated/agent_pb.js';
import { MAX_REPLY_BYTES } from './limits.ts';
import { toAgentHello, toError, toGuestStats, toProcessExit } from './messages.ts';
import { encodeGuest, rawFrame } from './testing/fake-agent.ts';

const ROUNDS = 3_000;
const NONCE = Buffer.from('0123456789abcdef');
const EXIT = { code: 3, signal: 0, timedOut: false, oomKilled: false };
const FRAMES = [
  encodeGuest(0n, {
    case: 'hello',
    value: {
      protocolVersion: 1,
      agentVersion: '1.0',
      features: ['a', 'b'],
      bootId: 'boot',
      kernelRelease: '6.1',
      sessions: [{ sessionId: 'main', pid: 7, running: false, exit: EXIT }],
    },
  }),
  encodeGuest(7n, {
    case: 'failure',
    value: { code: FailureCode.FAILURE_NOT_FOUND, message: 'no such file' },
  }),
  encodeGuest(8n, {
    case: 'stats',
    value: {
      uptimeMs: 12_345n,
      memoryTotal: 1n << 30n,
      fileSystems: [{ mountPath: '/', totalBytes: 99n }],
      interfaces: [{ name: 'eth0', receiveBytes: 1n }],
    },
  }),
];
const TOKENS = [
  'BHF1',
  '\xff\xff\xff\xff',
  '\xff'.repeat(9),
  '\0\0\0\0',
  '\x80\x80\x80\x80\x80\x01',
  'main',
  '../',
];

/** In pieces of random size, as they come from a socket. */
function* pieces(bytes: Buffer, pick: Pick): Generator<Buffer> {
  for (let at = 0; at < bytes.length; ) {
    const size = 1 + pick(64);
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

/** A frame whose payload is damaged and whose checksum is right, or one that is damaged as a whole. */
function frameOf(pick: Pick): Buffer {
  const frame = FRAMES[pick(FRAMES.length)] ?? Buffer.alloc(0);
  return pick(3) === 0 ? damaged(frame, TOKENS, pick) : rawFrame(damaged(frame.subarray(12), TOKENS, pick));
}

/** As the connection and those behind it look at a message. */
function look(message: GuestMessage): void {
  const { body } = message;
  if (body.case === 'hello') toAgentHello(body.value);
  if (body.case === 'hello') for (const { exit } of body.value.sessions) if (exit) toProcessExit(exit);
  if (body.case === 'failure') assert.ok(toError(body.value).message.length < MAX_REPLY_BYTES);
  if (body.case === 'stats') toGuestStats(body.value);
}

/** True where nothing was refused. */
function taken(work: () => void): boolean {
  try {
    work();
    return true;
  } catch (error) {
    if (error instanceof BulkheadError && error.code === 'AGENT_PROTOCOL') return false;
    throw error;
  }
}

fuzz('frames are messages or AGENT_PROTOCOL', ROUNDS, (pick) => {
  const decoder = new FrameDecoder(NONCE);
  const stale = pick(3) === 0 ? damaged(NONCE, TOKENS, pick) : Buffer.alloc(0);
  const stream = Buffer.concat([stale, NONCE, ...Array.from({ length: 1 + pick(3) }, () => frameOf(pick))]);
  return taken(() => {
    for (const piece of pieces(stream, pick)) {
      for (const payload of decoder.push(piece)) look(decodeMessage(payload));
    }
  });
});

/** Two entries behind their lengths: `a`, a file of 5 bytes, and `l`, a link to it. */
const ENTRIES = Buffer.from('070a01611001' + '1805' + '0a0a016c10033a0161' + '2001', 'hex');

fuzz('entries of folders are files or AGENT_PROTOCOL', ROUNDS, (pick) => {
  const decoder = new FileEntryDecoder();
  return taken(() => {
    for (const piece of pieces(damaged(ENTRIES, TOKENS, pick), pick)) {
      for (const { name } of decoder.push(piece)) assert.doesNotMatch(name, /[/\0]/);
    }
  });
});
