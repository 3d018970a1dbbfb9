import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import type { EtcdConnection } from './connection.ts';
import { RangeResponseSchema } from './gen/etcd/api/etcdserverpb/rpc_pb.js';
import { listPrefix } from './range.ts';
import { RangePage } from './range-page.ts';

const pageOf = (response: MessageInitShape<typeof RangeResponseSchema>): RangePage =>
  new RangePage(toBinary(RangeResponseSchema, create(RangeResponseSchema, response)));

test('of an etcd that is far away a list comes in fewer pages, of four times the size', async () => {
  const limits: number[] = [];
  const value = new Uint8Array(1017);
  /** 5,000 entries of a kilobyte, each page after a round trip of 80 ms. */
  const range = async ({ limit }: { limit: bigint }) => {
    limits.push(Number(limit));
    await pause(80);
    const [count, given] = [Number(limit), limits.slice(0, -1).reduce((sum, each) => sum + each, 0)];
    const kvs = Array.from({ length: Math.min(count, 5000 - given) }, (_, n) => ({
      key: Buffer.from(`k/${String(given + n).padStart(5, '0')}`),
      value,
    }));
    return pageOf({ header: { revision: 7n }, kvs, more: given + count < 5000 });
  };
  let entries = 0;
  const connection = { range } as unknown as EtcdConnection;
  await listPrefix(connection, 'k/', page => {
    for (const _ of page) entries++;
  });
  assert.equal(entries, 5000);
  assert.equal(Math.max(...limits), 508);
});

test('a page says of each entry what the whole message says', () => {
  const text = new TextEncoder();
  const kvs = [
    { key: text.encode('a'), value: text.encode('ä'), modRevision: 2n ** 40n, lease: -5n },
    { key: text.encode('b'), createRevision: 3n, version: 7n },
    { key: text.encode('c'), value: new Uint8Array([0xff, 0x41]), modRevision: 1n, lease: 2n ** 62n },
  ];
  const header = { clusterId: 2n ** 64n - 1n, memberId: 3n, revision: 2n ** 50n, raftTerm: 4n };
  const page = pageOf({ header, kvs, more: true, count: 9n });
  assert.deepEqual(
    [page.header, page.more, page.size],
    [{ clusterId: header.clusterId, revision: header.revision }, true, 3],
  );
  assert.deepEqual(page.lastKey, text.encode('c'));
  for (let times = 0; times < 2; times++)
    assert.deepEqual(
      Array.from(page, ({ key, value, bytes, modRevision, lease }) => [
        key,
        value,
        [...bytes],
        modRevision,
        lease,
      ]),
      [
        ['a', 'ä', [0xc3, 0xa4], 2n ** 40n, -5n],
        ['b', '', [], 0n, 0n],
        ['c', '\ufffdA', [0xff, 0x41], 1n, 2n ** 62n],
      ],
    );
  const none = pageOf({});
  assert.deepEqual(
    [none.header, none.more, none.size, none.lastKey, [...none]],
    [undefined, false, 0, undefined, []],
  );
  assert.throws(() => new RangePage(Uint8Array.of(0x12, 9, 1)));
});
