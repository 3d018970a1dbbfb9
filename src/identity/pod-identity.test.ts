import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { IdentityRow } from '../api/crds/cilium-identity.ts';
import { formatLabels, type Labels } from '../api/labels.ts';
import type { Table } from '../table/table.ts';
import { IdentityAllocator } from './allocator.ts';
import { identitiesTable } from './identities.ts';
import { derivePodLabels, namespacesTable, type PodRow, podRow, podsTable } from './pod.ts';
import { followPodIdentities, type PodIdentityRow, podIdentitiesTable } from './pod-identity.ts';

const signal = new AbortController().signal;

function pod(name: string, labels: Record<string, string>, more: Partial<PodRow> = {}): PodRow {
  return {
    namespace: 'shop',
    name,
    uid: `uid-${name}`,
    node: 'n1',
    hostNetwork: false,
    labels,
    annotations: {},
    serviceAccount: 'default',
    ports: [],
    phase: 'Running',
    addresses: [],
    leaving: false,
    ...more,
  };
}

function identity(number: number, labels: Labels): IdentityRow {
  const text = formatLabels(labels);
  return {
    identity: number,
    labels,
    text,
    uid: `u${number}`,
    resourceVersion: '1',
    created: '',
    unusedSince: '',
  };
}

/** An allocator whose API server is a list of numbers to hand out; refuses while the list is empty. */
function setUp(numbers: number[]) {
  const pods = podsTable();
  const namespaces = namespacesTable();
  const identities = identitiesTable();
  const labels = derivePodLabels(pods, namespaces, { cluster: 'eu' });
  let asked = 0;
  const allocator = new (class extends IdentityAllocator {
    override async identityOf(wanted: Labels): Promise<number> {
      const known = this.known(formatLabels(wanted));
      if (known !== undefined) return known;
      asked++;
      const number = numbers.shift();
      if (number === undefined) throw new Error('the API server is away');
      identities.upsert(identity(number, wanted));
      return number;
    }
  })({ client: undefined as never, clusterId: 2, identities });
  const table = podIdentitiesTable();
  const errors: string[] = [];
  followPodIdentities(table, {
    labels,
    identities,
    allocator,
    signal,
    onError: (_, error) => errors.push(error.message),
  });
  const start = () => {
    pods.markSynced();
    namespaces.markSynced();
    identities.markSynced();
  };
  return { pods, namespaces, identities, table, errors, start, asked: () => asked };
}

async function until(table: Table<PodIdentityRow>, condition: () => boolean): Promise<void> {
  while (!condition())
    await new Promise<void>(resolve => {
      const stop = table.subscribe(() => {
        stop();
        resolve();
      });
    });
}

test('pods get identities when their namespace is known; equal labels share one; the host network has none', async () => {
  const { pods, namespaces, table, start } = setUp([200_001, 200_002]);
  pods.upsert(pod('a', { app: 'cart' }));
  pods.upsert(pod('b', { app: 'cart', 'pod-template-hash': 'x' }));
  pods.upsert(pod('host', {}, { hostNetwork: true }));
  start();
  await table.whenSynced();
  assert.equal(table.size, 0);
  namespaces.upsert({ name: 'shop', labels: { 'kubernetes.io/metadata.name': 'shop' } });
  await until(table, () => table.size === 2);
  assert.equal(table.get('shop/a')?.identity, table.get('shop/b')?.identity);
});

test('changed labels give a new identity, also when it is the namespace that changed', async () => {
  const { pods, namespaces, table, start } = setUp([200_001, 200_002, 200_003]);
  namespaces.upsert({ name: 'shop', labels: {} });
  pods.upsert(pod('a', { app: 'cart' }));
  start();
  await table.whenSynced();
  assert.equal(table.get('shop/a')?.identity, 200_001);
  pods.upsert(pod('a', { app: 'basket' }));
  await until(table, () => table.get('shop/a')?.identity === 200_002);
  namespaces.upsert({ name: 'shop', labels: { team: 'x' } });
  await until(table, () => table.get('shop/a')?.identity === 200_003);
  pods.delete('shop/a');
  await until(table, () => table.size === 0);
});

test('a lower number for the same labels wins, and an identity that cannot be had is tried again', async t => {
  // Retries are timers that keep no process alive.
  const alive = setInterval(() => {}, 1000);
  t.after(() => clearInterval(alive));
  const numbers: number[] = [];
  const { pods, namespaces, identities, table, errors, start } = setUp(numbers);
  namespaces.upsert({ name: 'shop', labels: {} });
  pods.upsert(pod('a', { app: 'cart' }));
  start();
  await table.whenSynced();
  assert.equal(errors[0], 'the API server is away');
  numbers.push(200_009);
  await until(table, () => table.get('shop/a')?.identity === 200_009);
  const labels = table.get('shop/a')?.labels ?? {};
  identities.upsert(identity(200_005, labels));
  await until(table, () => table.get('shop/a')?.identity === 200_005);
  identities.upsert(identity(200_007, labels));
  identities.delete('200005');
  await until(table, () => table.get('shop/a')?.identity === 200_007);
});

test("a pod's named ports include those of sidecars", () => {
  const row = podRow({
    metadata: { name: 'a', namespace: 'shop', uid: 'u', resourceVersion: '1' },
    spec: {
      containers: [{ name: 'c', ports: [{ name: 'http', containerPort: 8080 }, { containerPort: 9 }] }],
      initContainers: [
        { name: 's', restartPolicy: 'Always', ports: [{ name: 'dns', containerPort: 53, protocol: 'UDP' }] },
        { name: 'i', ports: [{ name: 'once', containerPort: 1 }] },
      ],
    },
    status: { podIP: '10.1.0.4' },
  });
  assert.deepEqual(row.ports, [
    { name: 'http', port: 8080, protocol: 'TCP' },
    { name: 'dns', port: 53, protocol: 'UDP' },
  ]);
  assert.deepEqual(row.addresses, ['10.1.0.4']);
});
