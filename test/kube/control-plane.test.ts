import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { CiliumIdentity, identityRow } from '../../src/api/crds/cilium-identity.ts';
import { formatLabels } from '../../src/api/labels.ts';
import { IdentityAllocator } from '../../src/identity/allocator.ts';
import { identitiesTable, reflectIdentities } from '../../src/identity/identities.ts';
import { EventRecorder } from '../../src/kube/events.ts';
import { lead } from '../../src/kube/lease.ts';
import { ConfigMap } from '../../src/kube/objects.ts';
import { reflect } from '../../src/kube/reflect.ts';
import { pathOf, resources, typeOf } from '../../src/kube/resource.ts';
import { isAlreadyExists, isConflict, isNotFound } from '../../src/kube/status.ts';
import { definitions, installDefinitions } from '../../src/operator/crds.ts';
import { Table } from '../../src/table/table.ts';
import { LocalApiServer, missingBinaries, until } from './local-api-server.ts';

const skip = missingBinaries() ?? false;
let api: LocalApiServer;
const stop = new AbortController();

before(async () => {
  if (!skip) api = await LocalApiServer.start();
});
after(async () => {
  stop.abort();
  await api?.[Symbol.asyncDispose]();
});

const configMaps = (name?: string) =>
  pathOf(resources.configMaps, { namespace: 'default', ...(name ? { name } : {}) });
const configMap = (name: string, data: Record<string, string>) => ({
  ...typeOf(resources.configMaps),
  metadata: { name, namespace: 'default' },
  data,
});

test('create, apply, patch, delete, and the refusals by name', { skip }, async () => {
  const client = api.client('admin');
  await client.create(configMaps(), configMap('one', { a: '1' }));
  await assert.rejects(client.create(configMaps(), configMap('one', {})), error => {
    assert.ok(isAlreadyExists(error));
    assert.match(
      (error as Error).message,
      /POST .*configmaps: 409 AlreadyExists: configmaps "one" already exists/,
    );
    return true;
  });
  await client.apply(configMaps('one'), configMap('one', { b: '2' }));
  await client.patch(configMaps('one'), 'merge', { data: { a: null } });
  await client.patch(configMaps('one'), 'json', [{ op: 'add', path: '/data/c', value: '3' }]);
  const read = await client.get(configMaps('one'), ConfigMap);
  assert.deepEqual(read.data, { b: '2', c: '3' });
  await assert.rejects(client.delete(configMaps('one'), { preconditions: { uid: 'another' } }), error =>
    isConflict(error),
  );
  assert.equal(await client.delete(configMaps('one')), true);
  assert.equal(await client.delete(configMaps('one')), false);
  await assert.rejects(client.get(configMaps('one'), ConfigMap), error => isNotFound(error));
});

test('a table follows a collection, also over a restart of the API server', {
  skip,
  timeout: 60_000,
}, async t => {
  const client = api.client('admin');
  for (let n = 0; n < 25; n++) await client.create(configMaps(), configMap(`many-${n}`, { n: String(n) }));
  type Row = { name: string; n: string };
  const table = new Table<Row>({ name: 'config maps', keyOf: row => row.name });
  const changes: string[] = [];
  const reflection = reflect(client, {
    path: configMaps(),
    fieldSelector: 'metadata.name!=kube-root-ca.crt',
    schema: ConfigMap,
    table,
    toRow: each => ({ name: each.metadata.name, n: each.data?.n ?? '' }),
    signal: stop.signal,
    pageSize: 10,
    silence: 1000_000,
  });
  await table.whenSynced();
  assert.equal(table.size, 25);
  await until('watching', () => reflection.connected);
  table.subscribe(change => changes.push(change.key));
  const started = performance.now();
  await client.apply(configMaps('many-3'), configMap('many-3', { n: 'x' }));
  await until('changed', () => table.get('many-3')?.n === 'x');
  t.diagnostic(`apply to row: ${(performance.now() - started).toFixed(1)} ms`);
  await api.stop();
  await until('noticed', () => !reflection.connected && reflection.failing !== undefined);
  await api.run();
  await client.delete(configMaps('many-4'));
  await until('deleted', () => !table.has('many-4'), 30_000);
  assert.deepEqual(changes, ['many-3', 'many-4']);
  assert.equal(reflection.failing, undefined);
});

test('definitions are installed once, upgraded, and never taken back', { skip }, async () => {
  const client = api.client('admin');
  const installed: string[] = [];
  const install = () =>
    installDefinitions(client, { signal: stop.signal, onInstalled: name => installed.push(name) });
  await install();
  assert.equal(installed.length, definitions.length);
  await install();
  assert.equal(installed.length, definitions.length);
  const path = pathOf(resources.crds, { name: 'ciliumnodes.cilium.io' });
  await client.patch(path, 'merge', { metadata: { annotations: { 'isthmus.io/crd-version': '0' } } });
  await install();
  assert.equal(installed.length, definitions.length + 1);
  await client.patch(path, 'merge', { metadata: { annotations: { 'isthmus.io/crd-version': '999' } } });
  await install();
  assert.equal(installed.length, definitions.length + 1);
});

test('nodes that meet the same labels at once agree on one identity each', {
  skip,
  timeout: 60_000,
}, async () => {
  await installDefinitions(api.client('admin'), { signal: stop.signal });
  const nodes = Array.from({ length: 4 }, () => {
    const client = api.client('admin');
    const identities = identitiesTable();
    reflectIdentities(client, identities, { signal: stop.signal });
    return new IdentityAllocator({ client, clusterId: 2, identities });
  });
  const sets = Array.from({ length: 10 }, (_, n) => ({ 'k8s:app': `app-${n}`, 'k8s:tier': '' }));
  const answers = await Promise.all(
    nodes.flatMap(node =>
      sets.map(async labels => `${formatLabels(labels)} ${await node.identityOf(labels)}`),
    ),
  );
  assert.equal(new Set(answers).size, sets.length);
  const client = api.client('admin');
  const { items } = (await client.request('GET', pathOf(resources.ciliumIdentities))) as { items: unknown[] };
  const rows = items.map(each => identityRow(CiliumIdentity.parse(each)));
  assert.equal(rows.length, sets.length);
  assert.ok(rows.every(row => row.identity > 131_072 + 255 && row.identity < 196_608));
  assert.deepEqual(rows.map(row => row.labels).sort(byApp), sets);
});

function byApp(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): number {
  return String(a['k8s:app']).localeCompare(String(b['k8s:app']));
}

test('an identity in use that somebody deletes is made again with its number', { skip }, async () => {
  const client = api.client('admin');
  const identities = identitiesTable();
  reflectIdentities(client, identities, { signal: stop.signal });
  const used = new Set<number>();
  const allocator = new IdentityAllocator({
    client,
    clusterId: 2,
    identities,
    inUse: each => used.has(each),
  });
  const identity = await allocator.identityOf({ 'k8s:app': 'app-1', 'k8s:tier': '' });
  used.add(identity);
  const before = identities.get(String(identity))?.uid;
  await client.delete(pathOf(resources.ciliumIdentities, { name: String(identity) }));
  await until('made again', () => {
    const row = identities.get(String(identity));
    return row !== undefined && row.uid !== before;
  });
});

test('one candidate leads; when it stops the other does, when it is cut off it steps down', {
  skip,
  timeout: 60_000,
}, async () => {
  const leading: string[] = [];
  const candidate = (identity: string, duration = 1500) => {
    const own = new AbortController();
    const lost = Promise.withResolvers<void>();
    const done = lead(
      api.client('admin'),
      {
        namespace: 'default',
        name: 'lead',
        identity,
        signal: own.signal,
        duration,
        deadline: 1000,
        interval: 100,
      },
      async term => {
        leading.push(identity);
        await new Promise(resolve => term.addEventListener('abort', resolve));
        lost.resolve();
      },
    );
    return { own, lost: lost.promise, done };
  };
  // a's lease would last for a minute: b leads soon only because a gives it back.
  const a = candidate('a', 60_000);
  await until('a leads', () => leading.length === 1);
  const b = candidate('b');
  a.own.abort();
  await a.done;
  await until('b leads', () => leading.length === 2);
  assert.deepEqual(leading, ['a', 'b']);
  // Another takes the lease by force: b must stop at once.
  await api.client('admin').patch(pathOf(resources.leases, { namespace: 'default', name: 'lead' }), 'merge', {
    spec: { holderIdentity: 'c', renewTime: new Date().toISOString().replace('Z', '000Z') },
  });
  await b.lost;
  b.own.abort();
  await b.done;
});

test('equal events become one with a count', { skip }, async () => {
  const client = api.client('admin', 'isthmus-test');
  const recorder = new EventRecorder({ client, onError: assert.ifError });
  const subject = { apiVersion: 'v1', kind: 'Service', namespace: 'default', name: 'web', uid: 'u' };
  for (let n = 0; n < 3; n++) recorder.warn(subject, 'BadAnnotation', 'found nearby');
  recorder.warn(subject, 'BadAnnotation', 'found far');
  await recorder.flush();
  const path = pathOf(resources.events, { namespace: 'default' });
  const { items } = (await client.request('GET', path, {
    query: { fieldSelector: 'involvedObject.name=web' },
  })) as {
    items: { count: number; message: string; source: { component: string } }[];
  };
  assert.deepEqual(items.map(each => `${each.message} ${each.count}`).sort(), [
    'found far 1',
    'found nearby 3',
  ]);
  assert.equal(items[0]?.source.component, 'isthmus-test');
});
