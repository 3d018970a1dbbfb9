/** Reading and writing netlink messages and attributes (RFC 3549, linux/netlink.h). Pure. */
import { endianness } from 'node:os';

if (endianness() !== 'LE') throw new Error('netlink messages are written for little-endian machines only');

export const NLM_F_REQUEST = 0x1;
export const NLM_F_MULTI = 0x2;
export const NLM_F_ACK = 0x4;
export const NLM_F_DUMP_INTR = 0x10;
export const NLM_F_ROOT = 0x100;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_MATCH = 0x200;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLM_F_ACK_TLVS = 0x200;
export const NLM_F_CAPPED = 0x100;
export const NLM_F_DUMP = NLM_F_ROOT | NLM_F_MATCH;

export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;
export const NLMSG_MIN_TYPE = 0x10;

const HEADER = 16;
const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;

const align = (length: number): number => (length + 3) & ~3;

export interface NetlinkMessage {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly port: number;
  readonly body: Buffer;
}

export function encodeMessage(type: number, flags: number, sequence: number, body: Uint8Array): Buffer {
  const message = Buffer.alloc(align(HEADER + body.length));
  message.writeUInt32LE(HEADER + body.length, 0);
  message.writeUInt16LE(type, 4);
  message.writeUInt16LE(flags, 6);
  message.writeUInt32LE(sequence, 8);
  message.set(body, HEADER);
  return message;
}

/** Splits one datagram into its messages; a torn one ends the walk with an error. */
export function* decodeMessages(datagram: Buffer): Generator<NetlinkMessage> {
  for (let at = 0; at + HEADER <= datagram.length; ) {
    const length = datagram.readUInt32LE(at);
    if (length < HEADER || at + length > datagram.length)
      throw new Error(`netlink: message of ${length} bytes in a datagram with ${datagram.length - at} left`);
    yield {
      type: datagram.readUInt16LE(at + 4),
      flags: datagram.readUInt16LE(at + 6),
      sequence: datagram.readUInt32LE(at + 8),
      port: datagram.readUInt32LE(at + 12),
      body: datagram.subarray(at + HEADER, at + length),
    };
    at += align(length);
  }
}

export function attribute(type: number, payload: Uint8Array): Buffer {
  const out = Buffer.alloc(align(4 + payload.length));
  out.writeUInt16LE(4 + payload.length, 0);
  out.writeUInt16LE(type, 2);
  out.set(payload, 4);
  return out;
}

export const nested = (type: number, ...children: readonly Uint8Array[]): Buffer =>
  attribute(type | NLA_F_NESTED, Buffer.concat(children));

export const text = (type: number, value: string): Buffer => attribute(type, Buffer.from(`${value}\0`));

export const u8 = (type: number, value: number): Buffer => attribute(type, Uint8Array.of(value));

export function u32(type: number, value: number): Buffer {
  const payload = Buffer.alloc(4);
  payload.writeUInt32LE(value >>> 0);
  return attribute(type, payload);
}

/** A 16-bit number in network order, as ports are. */
export const be16 = (type: number, value: number): Buffer =>
  attribute(type, Uint8Array.of(value >> 8, value & 0xff));

/** Attributes by type. Where a type occurs twice the last one counts, as in the kernel. */
export function decodeAttributes(data: Buffer): Map<number, Buffer> {
  const found = new Map<number, Buffer>();
  for (let at = 0; at + 4 <= data.length; ) {
    const length = data.readUInt16LE(at);
    if (length < 4 || at + length > data.length) break;
    found.set(data.readUInt16LE(at + 2) & NLA_TYPE_MASK, data.subarray(at + 4, at + length));
    at += align(length);
  }
  return found;
}

/** A NUL-terminated text attribute. */
export function decodeText(payload: Buffer): string {
  const end = payload.indexOf(0);
  return payload.toString('utf8', 0, end < 0 ? payload.length : end);
}
