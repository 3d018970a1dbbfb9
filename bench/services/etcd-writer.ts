/**
 * Writes keys to the etcd of a lab's control plane: run in its network namespace, because etcd listens there on
 * loopback only. `node etcd-writer.ts PKI`, PKI being the folder of /etc/kubernetes/pki. Each line of standard
 * input is a JSON list of objects with `key` and, unless the key is to go, `value`, which are one transaction. It may
 * hold one object of a kind only: all get the same resource version, which no two objects of a kind have, and a watch
 * that is taken up again between them would miss the rest. Prints the number of keys at the end.
 */
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { create } from '@bufbuild/protobuf';
import * as z from 'zod';
import { dialEndpoint } from '../../src/kvstore/connection.ts';
import { RequestOpSchema } from '../../src/kvstore/gen/etcd/api/etcdserverpb/rpc_pb.js';
import { encodeKey } from '../../src/kvstore/range.ts';

/** Requests under way at once. */
const PARALLEL = 64;

const lineSchema = z.array(z.object({ key: z.string(), value: z.object({}).loose().optional() }));
const pki = process.argv[2];
if (pki === undefined) throw new Error('expected the folder of the control plane certificates');
using connection = await dialEndpoint(
  { host: '127.0.0.1', port: 2379, serverName: undefined },
  {
    tls: {
      ca: join(pki, 'etcd/ca.crt'),
      cert: join(pki, 'apiserver-etcd-client.crt'),
      key: join(pki, 'apiserver-etcd-client.key'),
    },
    requestTimeout: 60_000,
  },
);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
let written = 0;
const worker = async (): Promise<void> => {
  for (let line = await lines.next(); !line.done; line = await lines.next()) {
    const success = lineSchema.parse(JSON.parse(line.value)).map(({ key, value }) =>
      create(RequestOpSchema, {
        request: value
          ? { case: 'requestPut', value: { key: encodeKey(key), value: encodeKey(JSON.stringify(value)) } }
          : { case: 'requestDeleteRange', value: { key: encodeKey(key) } },
      }),
    );
    await connection.kv.txn({ success });
    written += success.length;
  }
};
await Promise.all(Array.from({ length: PARALLEL }, worker));
console.log(written);
