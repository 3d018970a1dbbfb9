import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CiliumNode, type NodeRow, nodeRow } from '../api/crds/cilium-node.ts';
import type { NodeVerdict } from '../clustermesh/verdicts.ts';
import { Table } from '../table/table.ts';
import { ClusterEvents } from './cluster-events.ts';
import { UnreachableNodes } from './unreachable-nodes.ts';

test('of all agents the one on the first node that is not dead tells of an unreachable node', () => {
  const nodes = new Table<NodeRow>({ name: 'nodes', keyOf: row => row.name });
  for (const name of ['n1', 'n2', 'n3'])
    nodes.upsert(
      nodeRow(CiliumNode.parse({ metadata: { name, uid: name, resourceVersion: '1' }, spec: {} })),
    );
  const verdicts = new Table<NodeVerdict>({ name: 'verdicts', keyOf: row => row.node });
  let now = 1000;
  const told: string[] = [];
  const seen = ['n1', 'n2', 'n3'].map(node => {
    const record =
      (type: string) =>
      (subject: { name: string }, reason: string): void =>
        void told.push(`${node}: ${type} ${reason} ${subject.name}`);
    const recorder = { warn: record('Warning'), say: record('Normal') };
    const events = new ClusterEvents({ node, nodes, verdicts: { nodes: verdicts }, recorder });
    return new UnreachableNodes({ verdicts, nodes, events, now: () => now });
  });
  verdicts.upsert({ node: 'n1', by: ['n2', 'n3'], dead: true });
  now += 2500;
  verdicts.upsert({ node: 'n1', by: ['n2'], dead: true });
  assert.deepEqual(seen[1]?.list(), [{ node: 'n1', by: ['n2'], dead: true, age: 2.5 }]);
  verdicts.delete('n1');
  assert.deepEqual(seen[1]?.list(), []);
  // A node that was taken out of the cluster has no object to tell it on.
  verdicts.upsert({ node: 'gone', by: ['n2', 'n3'], dead: true });
  assert.deepEqual(told, ['n2: Warning NodeUnreachable n1', 'n1: Normal NodeReachable n1']);
});
