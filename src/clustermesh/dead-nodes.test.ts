import assert from 'node:assert/strict';
import { test } from 'node:test';
import { settled } from '../table/settled.fixture.ts';
import { deriveDeadNodes } from './dead-nodes.ts';
import { remoteNodeVerdicts } from './mesh.fixture.ts';
import { remoteTables } from './rows.ts';

/** A cluster eu of so many nodes, n0, n1, …; `silent` and `accuse` change what is known of it. */
function world(size: number) {
  const { clusters, nodes } = remoteTables();
  const verdicts = remoteNodeVerdicts();
  const dead = deriveDeadNodes({ clusters, nodes, verdicts });
  for (let at = 0; at < size; at++)
    nodes.upsert({
      ...{ cluster: 'eu', clusterId: 2, name: `n${at}`, podCidrs: [] },
      addresses: [{ type: 'InternalIP', ip: `172.18.2.${at}` }],
      ...{ region: '', routing: '' },
    });
  return {
    silent: (silent: boolean) =>
      clusters.upsert({ cluster: 'eu', dead: false, silent, controlPlaneNode: '', via: '' }),
    accuse: (node: string, agreed = true) =>
      verdicts.upsert({ cluster: 'eu', node, by: agreed ? ['a', 'b'] : ['a'], agreed }),
    absolve: (node: string) => verdicts.delete(`eu/${node}`),
    dead: async () => {
      await settled();
      return [...dead.values()].map(({ node, addresses }) => `${node} ${addresses}`).join(', ');
    },
  };
}

test('what our probes find of a node counts while its cluster is silent, and when two agree', async () => {
  const { silent, accuse, absolve, dead } = world(3);
  silent(false);
  accuse('n1');
  assert.equal(await dead(), '');
  silent(true);
  assert.equal(await dead(), 'n1 172.18.2.1');
  accuse('n1', false);
  assert.equal(await dead(), '');
  accuse('n1');
  assert.equal(await dead(), 'n1 172.18.2.1');
  silent(false);
  assert.equal(await dead(), '');
  silent(true);
  absolve('n1');
  assert.equal(await dead(), '');
});

test('most nodes of a silent cluster look dead: none is added to those that were', async () => {
  const { silent, accuse, absolve, dead } = world(5);
  silent(true);
  accuse('n1');
  assert.equal(await dead(), 'n1 172.18.2.1');
  for (const node of ['n2', 'n3']) accuse(node);
  assert.equal(await dead(), 'n1 172.18.2.1');
  absolve('n3');
  assert.equal(await dead(), 'n1 172.18.2.1, n2 172.18.2.2');
});

test('a node that is accused and that nobody knows is passed over', async () => {
  const { silent, accuse, dead } = world(3);
  silent(true);
  accuse('n9');
  assert.equal(await dead(), '');
});
