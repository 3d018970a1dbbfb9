import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as pause, setImmediate as turn } from 'node:timers/promises';
import type { NodeRow } from '../api/crds/cilium-node.ts';
import { log } from '../log.ts';
import { Table } from '../table/table.ts';
import { turnIsOver } from '../table/turn.ts';
import { ClusterFolder } from './cluster-folder.ts';
import { RemoteClusters } from './remote-clusters.ts';

log.level = 'silent';

function folderWith(...names: readonly string[]) {
  const folder = mkdtempSync(join(tmpdir(), 'isthmus-folder-'));
  for (const name of names) writeFileSync(join(folder, name), 'endpoints: []\n');
  const stop = new AbortController();
  const options = { folder, cluster: 'us', clusterId: 1, maxClusters: 255, signal: stop.signal } as const;
  return {
    options,
    [Symbol.dispose]: () => {
      stop.abort();
      rmSync(folder, { recursive: true });
    },
  };
}

const added = (): never => {
  throw new Error('no file here can be used');
};

test('all clusters are known at once, and their configurations are read turn by turn', async () => {
  const names = Array.from({ length: 20 }, (_, n) => `c${n}`).sort();
  using made = folderWith(...names);
  const [appeared, read]: [string[], string[]] = [[], []];
  await turn();
  while (!turnIsOver());
  const folder = new ClusterFolder(made.options, {
    removed: () => undefined,
    added,
    appeared: name => appeared.push(name),
    forgiven: name => read.push(name),
  });
  folder.start();
  assert.deepEqual([appeared, folder.names, read], [names, names, []]);
  while (read.length < names.length) await turn();
  assert.deepEqual(read, names);
  assert.equal(folder.status.length, names.length);
});

test('a question for the status does not compare the pod ranges of the mesh', async () => {
  using made = folderWith();
  const nodes = new Table<NodeRow>({ name: 'nodes', keyOf: row => row.name });
  let walks = 0;
  const values = nodes.values.bind(nodes);
  nodes.values = () => {
    walks++;
    return values();
  };
  const clusters = new RemoteClusters({ ...made.options, nodes });
  const node: NodeRow = {
    name: 'n',
    uid: '',
    addresses: [],
    podCidrs: ['10.1.0.0/24'],
    healthIp: '',
    ingressIp: '',
    encryptionKey: 0,
    labels: {},
    annotations: {},
    bootId: '',
  };
  nodes.upsert(node);
  while (walks === 0) await pause(5);
  nodes.upsert({ ...node, labels: { a: 'b' } });
  for (let n = 0; n < 10; n++) assert.deepEqual(clusters.status, []);
  assert.equal(walks, 1);
});
