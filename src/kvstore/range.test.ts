import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { create } from '@bufbuild/protobuf';
import type { EtcdConnection } from './connection.ts';
import { RangeResponseSchema } from './gen/etcd/api/etcdserverpb/rpc_pb.js';
import { listPrefix } from './range.ts';

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
    return create(RangeResponseSchema, { header: { revision: 7n }, kvs, more: given + count < 5000 });
  };
  let entries = 0;
  const connection = { kv: { range } } as unknown as EtcdConnection;
  await listPrefix(connection, 'k/', page => {
    entries += page.length;
  });
  assert.equal(entries, 5000);
  assert.equal(Math.max(...limits), 512);
});
