import { BinaryReader } from '@bufbuild/protobuf/wire';

const decoder = new TextDecoder();

/** One key of an etcd with its value. */
export interface Entry {
  readonly key: string;
  /** As text: what is no UTF-8 is replaced. */
  readonly value: string;
  /** As it is. A part of the whole response: who keeps it keeps that. */
  readonly bytes: Uint8Array;
  /** Lease the key is bound to, 0 for none. */
  readonly lease: bigint;
  readonly modRevision: bigint;
}

/**
 * The answer to a range request, as it came. An entry is read when its turn has come: pages wait for each other, and
 * thousands of objects that wait are copied by the garbage collector over and over.
 * Source: etcd's rpc.proto (RangeResponse, ResponseHeader) and kv.proto (KeyValue). @throws Error where the bytes are none
 */
export class RangePage implements Iterable<Entry> {
  readonly header: { readonly clusterId: bigint; readonly revision: bigint } | undefined;
  /** There are more keys than were asked for at once. */
  readonly more: boolean;
  /** Of entries. */
  readonly size: number;
  readonly #bytes: Uint8Array;
  /** Where the last entry begins; -1 without one. */
  readonly #last: number;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    let [header, more, size, last] = [undefined as RangePage['header'], false, 0, -1];
    const reader = new BinaryReader(bytes);
    while (reader.pos < reader.len) {
      const [field, wire] = reader.tag();
      if (field === HEADER) header = readHeader(reader);
      else if (field === MORE) more = reader.bool();
      else {
        if (field === ENTRY) {
          size++;
          last = reader.pos;
        }
        reader.skip(wire, field);
      }
    }
    [this.header, this.more, this.size, this.#last] = [header, more, size, last];
  }

  get byteLength(): number {
    return this.#bytes.length;
  }

  /** The key of the last entry. */
  get lastKey(): Uint8Array | undefined {
    if (this.#last < 0) return undefined;
    const reader = new BinaryReader(this.#bytes);
    reader.pos = this.#last;
    const end = reader.uint32() + reader.pos;
    while (reader.pos < end) {
      const [field, wire] = reader.tag();
      if (field === KEY) return reader.bytes();
      reader.skip(wire, field);
    }
    return nothing;
  }

  *[Symbol.iterator](): IterableIterator<Entry> {
    const reader = new BinaryReader(this.#bytes);
    while (reader.pos < reader.len) {
      const [field, wire] = reader.tag();
      if (field === ENTRY) yield new PageEntry(reader);
      else reader.skip(wire, field);
    }
  }
}

const HEADER = 1;
const ENTRY = 2;
const MORE = 3;
/** Of an entry. */
const KEY = 1;

const nothing = new Uint8Array(0);

class PageEntry implements Entry {
  readonly key: string = '';
  readonly bytes: Uint8Array = nothing;
  readonly lease: bigint = 0n;
  readonly modRevision: bigint = 0n;

  constructor(reader: BinaryReader) {
    const end = reader.uint32() + reader.pos;
    while (reader.pos < end) {
      const [field, wire] = reader.tag();
      if (field === KEY) this.key = decoder.decode(reader.bytes());
      else if (field === 3) this.modRevision = BigInt(reader.int64());
      else if (field === 5) this.bytes = reader.bytes();
      else if (field === 6) this.lease = BigInt(reader.int64());
      else reader.skip(wire, field);
    }
  }

  get value(): string {
    return decoder.decode(this.bytes);
  }
}

function readHeader(reader: BinaryReader): RangePage['header'] {
  const end = reader.uint32() + reader.pos;
  let [clusterId, revision] = [0n, 0n];
  while (reader.pos < end) {
    const [field, wire] = reader.tag();
    if (field === 1) clusterId = BigInt(reader.uint64());
    else if (field === 3) revision = BigInt(reader.int64());
    else reader.skip(wire, field);
  }
  return { clusterId, revision };
}
