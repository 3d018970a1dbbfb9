import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import {
  type RequestOp,
  RequestOpSchema,
  type TxnResponse,
  TxnResponseSchema,
} from './gen/etcd/api/etcdserverpb/rpc_pb.js';
import { decodeText, encodeKey } from './range.ts';
import { Writes } from './writes.ts';

const put = (key: string, bytes = 1): RequestOp =>
  create(RequestOpSchema, {
    request: { case: 'requestPut', value: { key: encodeKey(key), value: new Uint8Array(bytes) } },
  });

/** Writes to an etcd that refuses a transaction with the key `bad`; and the keys of each that it was asked for. */
function writesTo() {
  const asked: string[][] = [];
  const txn = async (request: { success?: readonly object[] }): Promise<TxnResponse> => {
    const keys = (request.success as RequestOp[]).map(({ request }) =>
      decodeText(request.case === 'requestPut' ? request.value.key : new Uint8Array()),
    );
    asked.push(keys);
    if (keys.includes('bad')) throw new ConnectError('no', Code.InvalidArgument);
    return create(TxnResponseSchema, { header: { revision: BigInt(asked.length) } });
  };
  return { writes: new Writes({ txn }), asked };
}

test('what is written in one turn goes in one transaction, what comes later in another', async () => {
  const { writes, asked } = writesTo();
  const answers = await Promise.all([writes.commit([put('a'), put('b')]), writes.commit([put('c')])]);
  assert.deepEqual(
    answers.map(({ header }) => header!.revision),
    [1n, 1n],
  );
  await writes.commit([put('d')]);
  assert.deepEqual(asked, [['a', 'b', 'c'], ['d']]);
});

test('no more goes together than etcd takes, neither operations nor bytes', async () => {
  const { writes, asked } = writesTo();
  const many = (name: string) => Array.from({ length: 100 }, (_, n) => put(`${name}${n}`));
  await Promise.all([
    writes.commit(many('a')),
    writes.commit(many('b')),
    writes.commit([put('small')]),
    writes.commit([put('large', 1_000_000)]),
    writes.commit([put('huge', 3_000_000)]),
    writes.commit([put('last')]),
  ]);
  assert.deepEqual(
    asked.map(keys => `${keys[0]} ${keys.length}`),
    ['a0 100', 'b0 102', 'huge 1', 'last 1'],
  );
});

test('where all together are refused, each is written by itself, and fails alone', async () => {
  const { writes, asked } = writesTo();
  const [good, bad] = await Promise.allSettled([writes.commit([put('a')]), writes.commit([put('bad')])]);
  assert.deepEqual(asked, [['a', 'bad'], ['a'], ['bad']]);
  assert.equal(good.status, 'fulfilled');
  assert.match(String(bad.status === 'rejected' && bad.reason), /no/);
});
