import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nextHops, type RoutedService } from './next-hops.ts';

const nodes = ['172.18.1.2', 'fd00::2', '172.18.1.3', 'fd00::3'];
const service = (of: Partial<RoutedService>): RoutedService => ({
  key: 'default/front',
  addresses: ['172.18.1.224'],
  healthCheckNodePort: undefined,
  affinity: false,
  ...of,
});

test('a service that any node serves needs no route of its own', () => {
  assert.deepEqual(nextHops(service({}), nodes), []);
});

test('a service of local endpoints goes to the nodes that say yes, by families', () => {
  const both = service({ addresses: ['172.18.1.224', 'fd00::e0'], healthCheckNodePort: 30_000 });
  assert.deepEqual(nextHops(both, nodes.slice(1)), [
    ['172.18.1.224', 'nexthop via 172.18.1.3'],
    ['fd00::e0', 'nexthop via fd00::2 nexthop via fd00::3'],
  ]);
  assert.deepEqual(nextHops(service({ healthCheckNodePort: 30_000 }), []), [['172.18.1.224', '']]);
});

test('clients with affinity go by one node', () => {
  assert.deepEqual(nextHops(service({ affinity: true }), nodes), [
    ['172.18.1.224', 'nexthop via 172.18.1.2'],
  ]);
});
