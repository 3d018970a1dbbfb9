import type { EtcdConnection } from './connection.ts';
import { RangeRequest_SortOrder, RangeRequest_SortTarget } from './gen/etcd/api/etcdserverpb/rpc_pb.js';
import type { KeyValue } from './gen/etcd/api/mvccpb/kv_pb.js';
import { Permits } from './permits.ts';
import type { Entry, RangePage } from './range-page.ts';

export type { Entry };

const encoder = new TextEncoder();
const decoder = new TextDecoder();
/** Refuses what it could not give back byte for byte. */
const exactDecoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export const encodeKey = (text: string): Uint8Array<ArrayBuffer> => encoder.encode(text);
export const decodeText = (bytes: Uint8Array): string => decoder.decode(bytes);

/** A key, or those from it up to an end. */
export interface KeyRange {
  readonly key: Uint8Array<ArrayBuffer>;
  readonly rangeEnd?: Uint8Array<ArrayBuffer>;
}

/** A value byte for byte, to be kept: as text where it is text, which takes least memory, and else as a copy. */
export function exactValue({ bytes }: Pick<Entry, 'bytes'>): string | Uint8Array {
  try {
    return exactDecoder.decode(bytes);
  } catch {
    return bytes.slice();
  }
}

/** First key after all keys that start with `prefix`, as etcd defines a prefix range. */
export function prefixEnd(prefix: string): Uint8Array<ArrayBuffer> {
  const end = encodeKey(prefix);
  for (let at = end.length - 1; at >= 0; at--) {
    const byte = end[at]!;
    if (byte === 0xff) continue;
    end[at] = byte + 1;
    return end.slice(0, at + 1);
  }
  return new Uint8Array(1);
}

/** What etcd takes for all keys that start with `prefix`. */
export const prefixRange = (prefix: string): Required<KeyRange> => ({
  key: encodeKey(prefix),
  rangeEnd: prefixEnd(prefix),
});

/** The value of one key, or undefined. */
export async function getKey(connection: EtcdConnection, key: string): Promise<Entry | undefined> {
  const { kvs } = await connection.kv.range({ key: encodeKey(key) });
  return kvs[0] && entryOf(kvs[0]);
}

export interface ListOptions {
  /** Entries of the first request. Default 64; the next ones have about {@link PAGE} bytes. */
  readonly limit?: number;
  readonly keysOnly?: boolean;
  readonly signal?: AbortSignal;
}

/** Bytes of a page: what decodes in a millisecond or two, whether that is one value or a thousand. */
const PAGE = 128 * 1024;
/** Where a page takes so many milliseconds, of which a far cluster's etcd is many, they are fewer and four times as large. */
const FAR = 30;

/** Pages of all lists of this process that are on their way or being taken: what they hold is in memory. */
const pages = new Permits(8);
/** Milliseconds that a page may be waited for before another one is asked for beside it. */
const PATIENCE = 50;

/**
 * Calls `onPage` with all entries below `prefix` in key order, page by page, each when it is done with the one before,
 * all of one revision.
 * Resolves to that revision: a watch from the next one misses nothing.
 */
export async function listPrefix(
  connection: EtcdConnection,
  prefix: string,
  onPage: (entries: Iterable<Entry>) => void | Promise<void>,
  { limit = 64, keysOnly = false, signal }: ListOptions = {},
): Promise<bigint> {
  const rangeEnd = prefixEnd(prefix);
  let key = encodeKey(prefix);
  let revision = 0n;
  let entries = limit;
  for (;;) {
    const done = await pages.take();
    const waiting = setTimeout(done, PATIENCE);
    const asked = performance.now();
    try {
      const page = await connection.range(
        {
          key,
          rangeEnd,
          limit: BigInt(entries),
          revision,
          keysOnly,
          sortOrder: RangeRequest_SortOrder.ASCEND,
          sortTarget: RangeRequest_SortTarget.KEY,
        },
        signal,
      );
      clearTimeout(waiting);
      const size = performance.now() - asked > FAR ? 4 * PAGE : PAGE;
      if (revision === 0n) revision = revisionOf(page.header);
      await onPage(page);
      const last = page.lastKey;
      if (!page.more || !last) return revision;
      entries = Math.min(4 * entries, Math.max(1, Math.floor((page.size * size) / page.byteLength)));
      key = new Uint8Array(last.length + 1);
      key.set(last);
    } finally {
      clearTimeout(waiting);
      done();
    }
  }
}

export function entryOf(kv: KeyValue): Entry {
  const { value: bytes } = kv;
  return {
    key: decodeText(kv.key),
    get value() {
      return decodeText(bytes);
    },
    bytes,
    lease: kv.lease,
    modRevision: kv.modRevision,
  };
}

function revisionOf(header: RangePage['header']): bigint {
  if (!header) throw new Error('etcd: a range response without a header');
  return header.revision;
}
