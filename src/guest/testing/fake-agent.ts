// An agent that a test speaks for: honest or lying, byte by byte.
import { Duplex } from 'node:stream';
import { crc32 } from 'node:zlib';
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import {
  type GuestMessage,
  GuestMessageSchema,
  type HostMessage,
  HostMessageSchema,
} from '../generated/agent_pb.js';

type GuestBody = NonNullable<Exclude<MessageInitShape<typeof GuestMessageSchema>, GuestMessage>['body']>;

/** Header and payload, whatever their size: unlike the product's own encoder this one sends what is too large. */
export function rawFrame(payload: Uint8Array): Buffer {
  const frame = Buffer.alloc(12 + payload.length);
  frame.write('BHF1', 0, 'latin1');
  frame.writeUInt32LE(payload.length, 4);
  frame.set(payload, 12);
  frame.writeUInt32LE(crc32(payload, crc32(frame.subarray(4, 8))), 8);
  return frame;
}

export function encodeGuest(requestId: bigint, body: GuestBody): Buffer {
  return rawFrame(toBinary(GuestMessageSchema, create(GuestMessageSchema, { requestId, body })));
}

/** The guest's end of one connection. Answers hello by itself, everything else as `onMessage` says. */
export class FakeAgent {
  readonly host: Duplex;
  onMessage: (message: HostMessage, agent: FakeAgent) => void = () => {};
  #pending: Buffer = Buffer.alloc(0);
  /** Called in place of answering the hello. */
  onHello: ((nonce: Uint8Array, agent: FakeAgent) => void) | undefined;
  hello: GuestBody = { case: 'hello', value: { protocolVersion: 1, bootId: 'boot-1' } };

  constructor() {
    this.host = new Duplex({
      read: () => {},
      write: (chunk: Buffer, _encoding, done) => {
        this.#receive(chunk);
        done();
      },
    });
  }

  send(requestId: bigint, body: GuestBody): void {
    this.raw(encodeGuest(requestId, body));
  }

  raw(bytes: Uint8Array): void {
    if (!this.host.destroyed) this.host.push(bytes);
  }

  #receive(chunk: Buffer): void {
    this.#pending = Buffer.concat([this.#pending, chunk]);
    while (this.#pending.length >= 12) {
      if (this.#pending.toString('latin1', 0, 4) !== 'BHF1') {
        const next = this.#pending.indexOf('BHF1', 1, 'latin1');
        this.#pending = this.#pending.subarray(next < 0 ? this.#pending.length - 3 : next);
        continue;
      }
      const end = 12 + this.#pending.readUInt32LE(4);
      if (this.#pending.length < end) return;
      const message = fromBinary(HostMessageSchema, this.#pending.subarray(12, end));
      this.#pending = this.#pending.subarray(end);
      if (message.body.case === 'hello' && this.onHello) {
        this.onHello(message.body.value.nonce, this);
      } else if (message.body.case === 'hello') {
        this.raw(message.body.value.nonce);
        this.send(message.requestId, this.hello);
      } else {
        this.onMessage(message, this);
      }
    }
  }
}
