import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { CiliumNode, type NodeRow, nodeRow } from '../api/crds/cilium-node.ts';
import { routingAnnotation } from '../api/node-traits.ts';
import { Table } from '../table/table.ts';
import { ciliumNodeObject, type OwnNode, type ReadyNode } from './own-node.ts';
import type { RoutingMode } from './paths.ts';
import { publishNode } from './publish-node.ts';

const node: ReadyNode = {
  name: 'n1',
  uid: 'u',
  labels: {},
  annotations: {},
  bootId: 'b',
  addresses: [{ type: 'InternalIP', ip: '172.18.1.2' }],
  podCidrs: ['10.1.0.0/24'],
  leaving: false,
  address: '172.18.1.2',
  families: [{ family: 4, address: '172.18.1.2', podCidrs: ['10.1.0.0/24'], internalAddress: '10.1.0.1' }],
};

/** An API server that lets the test answer each write. */
function publication(t: TestContext, routing: RoutingMode, before?: RoutingMode) {
  const own = new Table<OwnNode>({ name: 'node', keyOf: row => row.name });
  const nodes = new Table<NodeRow>({ name: 'nodes', keyOf: row => row.name });
  const stop = new AbortController();
  t.after(() => stop.abort());
  const present = (mode: RoutingMode): NodeRow => nodeRow(parse(ciliumNodeObject(node, mode)));
  own.upsert(node);
  if (before) nodes.upsert(present(before));
  const written: { readonly object: object; done(error?: Error): void }[] = [];
  const published = publishNode({
    node,
    own,
    nodes,
    routing,
    write(object) {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      written.push({ object, done: error => (error ? reject(error) : resolve()) });
      return promise;
    },
    onError: () => undefined,
    signal: stop.signal,
  });
  nodes.markSynced();
  return { own, nodes, written, present, ...published };
}

/** As the API server gives back what is written. */
const parse = (written: object | undefined): CiliumNode => {
  const { metadata, ...rest } = written as { metadata: object };
  return CiliumNode.parse({ ...rest, metadata: { ...metadata, uid: 'c', resourceVersion: '1' } });
};
const read = (written: object | undefined) => parse(written).metadata;

test('what changes while a CiliumNode is being written is written after it, never at the same time', async t => {
  const { own, written, attached } = publication(t, 'native');
  await turn();
  assert.equal(written.length, 1);
  assert.equal(read(written[0]?.object).annotations?.[routingAnnotation], 'tunnel');
  attached();
  own.upsert({ ...node, labels: { zone: 'a' } });
  await turn();
  assert.equal(written.length, 1);
  written[0]?.done();
  await turn();
  assert.equal(written.length, 2);
  assert.equal(read(written[1]?.object).annotations?.[routingAnnotation], 'native');
  assert.deepEqual(read(written[1]?.object).labels, { zone: 'a' });
});

test('until its programs are at work a node says of its routing what the agent before it said', async t => {
  const { written, attached } = publication(t, 'native', 'hybrid');
  await turn();
  written[0]?.done();
  await turn();
  attached();
  await turn();
  const modes = written.map(({ object }) => read(object).annotations?.[routingAnnotation]);
  assert.deepEqual(modes, ['hybrid', 'native']);
});

test('a CiliumNode that is deleted is made anew, unless the Node is gone as well', async t => {
  const { own, nodes, written, present } = publication(t, 'tunnel', 'tunnel');
  await turn();
  written[0]?.done();
  await turn();
  nodes.delete('n1');
  await turn();
  assert.equal(written.length, 2);
  written[1]?.done();
  nodes.upsert(present('tunnel'));
  await turn();
  own.delete('n1');
  nodes.delete('n1');
  await turn();
  assert.equal(written.length, 2);
});
