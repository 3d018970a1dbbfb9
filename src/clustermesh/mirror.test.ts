import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { LocalEtcd, until } from '../../test/etcd/local-etcd.ts';
import { encodeKey, exactValue, listPrefix } from '../kvstore/range.ts';
import { keepSession } from '../kvstore/session.ts';
import type { RawRow } from '../kvstore/target.ts';
import { Table } from '../table/table.ts';
import { adminUser, localUser } from './access.ts';
import { blindKey, kinds } from './layout.ts';
import {
  binary,
  Cluster,
  configuration,
  Folder,
  Reader,
  remoteNodeVerdicts,
  row,
  skip,
  timing,
} from './mesh.fixture.ts';
import { Mirror, type MirrorOptions } from './mirror.ts';
import { sliceRow } from './slice.fixture.ts';
import type { ClusterVerdict } from './verdicts.ts';

/** Without pings: who finds a silence is the question that silent nodes are a reason for, and a busy machine is none. */
const calm = { ...timing, pingInterval: 60_000, pingTimeout: 60_000 };

/** A mirror of cluster us that writes into `home`. */
async function startMirror(home: LocalEtcd, folder: Folder, more: Partial<MirrorOptions> = {}) {
  const stop = new AbortController();
  const mirror = new Mirror({
    name: 'mirror-1',
    folder: folder.path,
    cluster: 'us',
    clusterId: 1,
    maxClusters: 255,
    timing: calm,
    ...more,
    signal: stop.signal,
  });
  const tls = await home.certificate(adminUser('us'));
  const session = keepSession(
    { endpoints: () => [home.endpoint], tls, ...calm },
    stop.signal,
    (connection, signal) => mirror.serve(connection, signal),
  );
  return {
    mirror,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await session;
    },
  };
}

/** What an agent of cluster us reads of eu, by the way that `folder` says. */
function startAgent(t: TestContext, folder: Folder, more: object = {}) {
  const us = new Reader(folder, { timing: calm, ...more });
  t.after(() => us[Symbol.dispose]());
  const { tables } = us;
  const flaps: string[] = [];
  for (const table of [tables.nodes, tables.identities, tables.endpoints, tables.services])
    table.subscribe(({ key, after }) => {
      if (!after) flaps.push(`${table.name} ${key}`);
    });
  return { tables, eu: () => us.of('eu'), flaps };
}

/** The agents' file of cluster eu where there is a mirror: the way to the own etcd. */
async function pointHome(folder: Folder, ...homes: readonly LocalEtcd[]): Promise<void> {
  folder.set(
    'eu',
    configuration(
      homes.map(each => each.endpoint.port),
      await homes[0]!.certificate(localUser('us')),
    ),
  );
}

/** Cluster us where there is a mirror: its own etcd, and the files that say the way to `eu`, of the mirror and of the agents. */
async function besideMirror(eu: Cluster) {
  await using stack = new AsyncDisposableStack();
  const home = stack.use(await LocalEtcd.start('us', binary!));
  eu.fill();
  const theirs = stack.use(new Folder());
  await theirs.add(eu);
  const ours = stack.use(new Folder());
  await pointHome(ours, home);
  const all = stack.move();
  return { home, theirs, ours, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

async function entries(etcd: LocalEtcd, prefix: string): Promise<Map<string, string | Uint8Array>> {
  using connection = await etcd.connect(adminUser(etcd.cluster));
  const found = new Map<string, string | Uint8Array>();
  await listPrefix(connection, prefix, page => {
    for (const each of page) found.set(each.key, exactValue(each));
  });
  return found;
}

async function put(etcd: LocalEtcd, key: string, value: string | Uint8Array): Promise<void> {
  using connection = await etcd.connect(adminUser(etcd.cluster));
  const bytes = typeof value === 'string' ? encodeKey(value) : new Uint8Array(value);
  await connection.kv.put({ key: encodeKey(key), value: bytes });
}

test('a copy has every value byte for byte, under keys of its cluster alone, and is read as the original', {
  skip,
}, async t => {
  // What agents refuse, and what is no text, is copied as well: readers judge.
  const slice = Uint8Array.from([0x28, 0xb5, 0x2f, 0xfd, 0, 1, 2, 0xff]);
  const slices = new Table<RawRow>({ name: 'slices', keyOf: each => each.key });
  slices.upsert({ key: 'cilium/state/endpointslices/v1/eu/shop/a', value: slice });
  slices.markSynced();
  await using eu = await Cluster.start('eu', 2, slices);
  await using place = await besideMirror(eu);
  const { home, theirs, ours } = place;
  eu.rows.nodes.upsert({ key: 'cilium/state/nodes/v1/eu/../us/b', value: '{"Name":"\uFEFF' });
  await using _ = await startMirror(home, theirs);
  const agent = startAgent(t, ours);
  await until(() => agent.eu()?.ready === true, 'ready');
  assert.deepEqual(agent.eu()!.counts, { nodes: 2, identities: 1, ip: 1, services: 1 });
  assert.equal(agent.eu()!.cached, true);
  assert.equal(agent.eu()!.mirror, 'mirror-1');
  assert.equal(agent.eu()!.clusterId, 2);
  assert.deepEqual(Object.keys(agent.eu()!.refused), ['cilium/cache/nodes/v1/eu/../us/b']);

  const original = await entries(eu.etcd, 'cilium/state/');
  const renamed = [...original].map(([key, value]) => [
    key
      .replace('cilium/state/', 'cilium/cache/')
      .replace('identities/v1/', 'identities/v1/eu/')
      .replace('ip/v1/default/', 'ip/v1/eu/'),
    value,
  ]);
  const copy = await entries(home, 'cilium/cache/');
  assert.ok(copy.delete('cilium/cache/isthmus/v1/eu/report'));
  assert.deepEqual(copy, new Map(renamed as [string, string | Uint8Array][]));
  assert.deepEqual(copy.get('cilium/cache/endpointslices/v1/eu/shop/a'), slice);
  assert.deepEqual(
    JSON.parse(String((await entries(home, 'cilium/cluster-config/eu')).get('cilium/cluster-config/eu'))),
    {
      id: 2,
      node: 'eu-control-plane',
      capabilities: {
        syncedCanaries: true,
        cached: true,
        maxConnectedClusters: 255,
        serviceExportsEnabled: true,
        endpointSlicesExportMode: 'services-and-endpointslices',
        mirrorReports: true,
      },
    },
  );
  assert.equal((await entries(home, 'cilium/synced/eu/cilium/cache/')).size, 6);

  const started = performance.now();
  eu.rows.services.upsert(row('eu', 2, 'services', 'b'));
  await until(() => agent.tables.services.has('eu/shop/b'), 'a change');
  console.log(`a change crossed the mirror after ${(performance.now() - started).toFixed(1)} ms`);
  eu.rows.services.delete(row('eu', 2, 'services', 'b').key);
  await until(() => !agent.tables.services.has('eu/shop/b'), 'an end');
});

test('a reader changes from original to copy and back, and nothing it knows flaps', { skip }, async t => {
  await using eu = await Cluster.start('eu', 2);
  await using home = await LocalEtcd.start('us', binary!);
  eu.fill();
  using theirs = new Folder();
  await theirs.add(eu);
  using ours = new Folder();
  await ours.add(eu);
  const agent = startAgent(t, ours);
  await until(() => agent.eu()?.ready === true, 'ready without a mirror');
  // The way to the copy is told before there is one.
  await pointHome(ours, home);
  await until(() => /has not written it yet/.test(agent.eu()?.status ?? ''), 'no copy yet');
  assert.equal(agent.eu()!.state, 'stale');
  await using _ = await startMirror(home, theirs);
  await until(() => agent.eu()?.ready === true && agent.eu()!.cached, 'ready with a mirror');
  await ours.add(eu);
  await until(() => agent.eu()?.ready === true && !agent.eu()!.cached, 'ready without one again');
  assert.deepEqual(agent.flaps, []);
  // What is gone since is found to be gone.
  eu.rows.services.delete(row('eu', 2, 'services', 'a').key);
  await until(() => agent.tables.services.size === 0, 'an end');
});

test('behind a mirror a cluster is stale, dead and trusted again as without one', { skip }, async t => {
  await using eu = await Cluster.start('eu', 2);
  await using place = await besideMirror(eu);
  const { home, theirs, ours } = place;
  const unheard = new Table<ClusterVerdict>({ name: 'unheard', keyOf: each => each.cluster });
  const verdicts = { clusters: unheard, remoteNodes: remoteNodeVerdicts() };
  await using _ = await startMirror(home, theirs, { verdicts });
  const agent = startAgent(t, ours, { verdicts });
  await until(() => agent.eu()?.ready === true, 'ready');
  assert.ok(agent.eu()!.heartbeatAge! < 30);
  const log: string[] = [];
  agent.tables.clusters.subscribe(({ before, after }) => {
    if (before?.dead !== after?.dead) log.push(after?.dead ? 'dead' : 'trusted');
  });

  unheard.upsert({ cluster: 'eu', by: ['us-a', 'us-b'], agreed: true });
  await until(() => agent.eu()!.warnings.length > 0, 'a warning');
  assert.equal(agent.eu()!.state, 'ready', 'its control plane answers');
  eu.etcd.signal('SIGSTOP');
  await until(() => agent.eu()?.state === 'dead', 'dead', 10_000);
  assert.match(
    agent.eu()!.status,
    /^dead for \d+ s: .* none of its nodes answers us-a, us-b, nor its control plane: its mirror mirror-1 says: /,
  );
  assert.ok(agent.tables.services.has('eu/shop/a'), 'what is known of it is kept');

  // Its control plane alone is silent: its backends are used, and their age is shown.
  unheard.delete('eu');
  assert.equal(agent.eu()!.state, 'dead', 'trusted only when it has been read again');
  eu.etcd.signal('SIGCONT');
  await until(() => agent.eu()?.state === 'ready', 'trusted', 20_000);
  assert.deepEqual(log, ['dead', 'trusted']);
  await until(() => agent.eu()!.lastOutage !== undefined, 'how long it was silent');

  const isSilent = (): boolean => agent.tables.clusters.get('eu')?.silent === true;
  eu.exporter.blind(true);
  await until(isSilent, 'it does not see its own nodes die');
  // What lies in this etcd is of the cluster that reads, not of the one that is copied.
  await put(home, blindKey, 'since now');
  eu.exporter.blind(false);
  await until(() => !isSilent(), 'it sees them again');

  await eu.etcd.kill();
  await until(() => agent.eu()?.state === 'stale', 'stale', 10_000);
  assert.match(
    agent.eu()!.status,
    /^its mirror mirror-1 says: not connected for \d+ s, what is known of it is that old: \w+: /,
  );
  await until(() => agent.eu()!.disconnectedAge! > 0, 'its age');
  assert.equal(agent.tables.clusters.get('eu')?.dead, false);
  await until(() => agent.tables.clusters.get('eu')?.silent === true, 'its nodes are looked at one by one');
  assert.equal(agent.tables.clusters.get('eu')?.controlPlaneNode, 'eu-control-plane');
  assert.deepEqual(agent.flaps, []);
});

test('a mirror that ends is missed, and one that begins while a cluster is silent keeps the copy', {
  skip,
}, async t => {
  await using eu = await Cluster.start('eu', 2);
  await using place = await besideMirror(eu);
  const { home, theirs, ours } = place;
  const agent = startAgent(t, ours);
  {
    await using _ = await startMirror(home, theirs, { reportTtl: 1 });
    await until(() => agent.eu()?.ready === true, 'ready');
  }
  await until(() => agent.eu()?.state === 'stale', 'missed', 20_000);
  assert.match(agent.eu()!.status, /^its mirror has been silent for \d+ s: what is known of it is that old$/);
  await eu.etcd.kill();
  const before = await leases(home, 'cilium/cache/');
  await using second = await startMirror(home, theirs, { name: 'mirror-2' });
  await until(() => agent.eu()?.mirror === 'mirror-2', 'a mirror again');
  assert.equal(agent.eu()!.state, 'stale', 'it has not heard of the cluster');
  assert.match(agent.eu()!.status, /^its mirror mirror-2 says: tcp: /);
  assert.deepEqual(second.mirror.incomplete, ['eu'], 'it may still come');
  assert.deepEqual(await leases(home, 'cilium/cache/'), before, 'what was copied is as it was');
  await eu.etcd.initialize();
  await eu.etcd.run();
  await until(() => agent.eu()?.ready === true, 'ready', 20_000);
  assert.deepEqual(second.mirror.incomplete, []);
  assert.deepEqual(agent.flaps, []);
});

/** Keys with their leases, reports aside. */
async function leases(etcd: LocalEtcd, prefix: string): Promise<string[]> {
  using connection = await etcd.connect(adminUser(etcd.cluster));
  const found: string[] = [];
  await listPrefix(connection, prefix, page => {
    for (const { key, lease } of page) if (!key.includes('/isthmus/')) found.push(`${key} ${lease}`);
  });
  return found;
}

test('a cluster that is taken off leaves nothing behind: readers first, then the copy, also while no mirror was there', {
  skip,
}, async t => {
  await using eu = await Cluster.start('eu', 2);
  await using place = await besideMirror(eu);
  const { home, theirs, ours } = place;
  const agent = startAgent(t, ours);
  {
    await using _ = await startMirror(home, theirs, { leave: 60_000 });
    await until(() => agent.eu()?.ready === true, 'ready');
    theirs.set('eu', undefined);
    await untilAsync(
      async () => (await entries(home, 'cilium/cluster-config/')).size === 0,
      'no new readers',
    );
    assert.ok((await entries(home, 'cilium/cache/services/')).size > 0, 'those that are there go on');
    await theirs.add(eu);
    await untilAsync(async () => (await entries(home, 'cilium/cluster-config/')).size === 1, 'it came back');
    assert.deepEqual(agent.flaps, []);
    theirs.set('eu', undefined);
    await untilAsync(
      async () => (await entries(home, 'cilium/cluster-config/')).size === 0,
      'taken off again',
    );
  }
  // The own export is in the same etcd, and so may be a cluster whose name begins alike.
  const others = [
    'cilium/cluster-config/us',
    'cilium/synced/us/cilium/state/nodes/v1',
    'cilium/state/nodes/v1/us/a',
  ];
  for (const key of others) await put(home, key, '{}');
  await using _ = await startMirror(home, theirs, { leave: 0 });
  await untilAsync(async () => (await entries(home, 'cilium/synced/eu/')).size === 0, 'gone');
  assert.deepEqual([...(await entries(home, 'cilium/')).keys()].sort(), others.toSorted());
  await until(() => agent.flaps.length === 4, 'readers that stayed forget it, too');
});

async function untilAsync(condition: () => Promise<boolean>, what: string): Promise<void> {
  for (const deadline = Date.now() + 20_000; !(await condition()); )
    if (Date.now() > deadline) throw new Error(`not so: ${what}`);
}

test('of two replicas one dies: readers move to the other etcd, and nothing flaps', { skip }, async t => {
  await using eu = await Cluster.start('eu', 2);
  await using one = await LocalEtcd.start('us', binary!);
  await using two = await LocalEtcd.start('us', binary!, one);
  eu.fill();
  using theirs = new Folder();
  await theirs.add(eu);
  await using first = await startMirror(one, theirs);
  await using second = await startMirror(two, theirs, { name: 'mirror-2' });
  await until(() => ![first, second].some(each => each.mirror.incomplete.length), 'both whole');
  using ours = new Folder();
  await pointHome(ours, one, two);
  const agents = Array.from({ length: 4 }, () => startAgent(t, ours));
  await until(() => agents.every(each => each.eu()?.ready), 'ready');
  await one.kill();
  const end = `127.0.0.1:${two.endpoint.port}`;
  await until(() => agents.every(each => each.eu()?.ready && each.eu()!.endpoint === end), 'moved', 20_000);
  assert.equal(new Set(agents.map(each => each.eu()!.etcdClusterId)).size, 1);
  eu.rows.nodes.upsert(row('eu', 2, 'nodes', 'late'));
  await until(() => agents.every(each => each.tables.nodes.has('eu/late')), 'what is new');
  assert.deepEqual(
    agents.flatMap(each => each.flaps),
    [],
  );
});

test('a cluster with another ID is another one behind a mirror, too; one that cannot be copied says why', {
  skip,
}, async t => {
  await using eu = await Cluster.start('eu', 2);
  await using place = await besideMirror(eu);
  const { home, theirs, ours } = place;
  await using _ = await startMirror(home, theirs);
  const agent = startAgent(t, ours);
  await until(() => agent.eu()?.ready === true, 'ready');
  const config = (id: number) =>
    `{"id":${id},"capabilities":{"syncedCanaries":true,"maxConnectedClusters":255}}`;
  await put(eu.etcd, 'cilium/cluster-config/eu', config(3));
  await eu.etcd.kill();
  await eu.etcd.run();
  await until(() => agent.eu()?.clusterId === 3, 'the new ID', 20_000);
  await until(
    () =>
      kinds.every(kind => agent.eu()!.counts[kind] === 0 || Object.keys(agent.eu()!.refused).length === 4),
    'the old is refused',
  );
  assert.equal(agent.tables.services.size, 0);

  // The ID of this cluster itself.
  await put(eu.etcd, 'cilium/cluster-config/eu', config(1));
  await eu.etcd.kill();
  await eu.etcd.run();
  await until(() => agent.eu()?.state === 'refused', 'refused', 20_000);
  assert.match(
    agent.eu()!.status,
    /^its mirror mirror-1 says: cluster ID 1 of eu is that of this cluster \(us\)/,
  );
  const late = startAgent(t, ours);
  await until(
    () => /^its mirror mirror-1 says: cluster ID 1 of eu is that of this/.test(late.eu()?.status ?? ''),
    `told, not ${late.eu()?.status}`,
  );
});

test('a cluster that goes over to slices only is followed through the mirror, and loses nobody a backend', {
  skip,
}, async t => {
  const slices = new Table<RawRow>({ name: 'slices', keyOf: each => each.key });
  slices.upsert(sliceRow('eu', 2, 'a', 'a-1', ['10.2.0.7']));
  slices.markSynced();
  await using eu = await Cluster.start('eu', 2, slices);
  await using place = await besideMirror(eu);
  const { home, theirs, ours } = place;
  await using _ = await startMirror(home, theirs);
  const agent = startAgent(t, ours);
  await until(() => agent.eu()?.ready === true, 'ready');
  assert.equal(agent.eu()!.counts.services, 1);
  await eu.etcd.kill();
  eu.exporter.configure({ ...eu.config, endpointSlicesExportMode: 'endpointslices-only' });
  eu.rows.services.delete(row('eu', 2, 'services', 'a').key);
  await eu.etcd.initialize();
  await eu.etcd.run();
  await until(() => agent.eu()?.counts.endpointslices === 1 && agent.eu()!.ready, 'slices', 20_000);
  const copy = await entries(home, 'cilium/cache/');
  assert.ok(copy.has('cilium/cache/endpointslices/v1/eu/shop/a-1'));
  slices.upsert(sliceRow('eu', 2, 'a', 'a-2', ['10.2.0.8']));
  const backends = () =>
    (agent.tables.services.get('eu/shop/a')?.backends ?? []).flatMap(part => Object.keys(part)).join();
  await until(() => backends() === '10.2.0.7,10.2.0.8', 'a change');
  assert.deepEqual(agent.flaps, []);
});
