import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import * as z from 'zod';
import { LocalEtcd, quickest, until } from '../../test/etcd/local-etcd.ts';
import type { NodeRow } from '../api/crds/cilium-node.ts';
import { encodeKey } from '../kvstore/range.ts';
import type { EtcdRow, RawRow } from '../kvstore/target.ts';
import { Table } from '../table/table.ts';
import { adminUser, localUser, remoteUser, syncRemoteUsers } from './access.ts';
import { datapathKinds } from './layout.ts';
import {
  binary,
  Cluster,
  euReadByUs,
  Folder,
  Reader,
  remoteNodeVerdicts,
  row,
  skip,
  timing,
} from './mesh.fixture.ts';
import { sliceRow } from './slice.fixture.ts';
import type { ClusterVerdict } from './verdicts.ts';
import { withdrawExport } from './withdraw.ts';

test('what one cluster exports, another knows; a bad value stops nothing else', { skip }, async () => {
  await using eu = await Cluster.start('eu', 2);
  using folder = new Folder();
  await folder.add(eu);
  using us = new Reader(folder);
  const { tables } = us;
  await until(() => us.of('eu')?.state === 'connected', 'connected, nothing complete yet');
  assert.match(us.of('eu')!.status, /synchronization in progress for nodes, identities, endpoints, services/);
  assert.equal(tables.services.synced, false);
  eu.fill();
  await until(() => us.of('eu')?.ready === true, 'ready');
  assert.equal(tables.services.synced, true);
  assert.equal(eu.exporter.synced, true);
  assert.deepEqual(us.of('eu')?.counts, { nodes: 1, identities: 1, ip: 1, services: 1 });
  assert.deepEqual([...tables.endpoints.by('prefix', '10.2.0.7/32')][0]?.nodeIp, '172.18.2.2');

  const started = performance.now();
  eu.rows.services.upsert(row('eu', 2, 'services', 'b'));
  await until(() => tables.services.has('eu/shop/b'), 'a new service');
  console.log(`a change crossed after ${(performance.now() - started).toFixed(1)} ms`);
  let round = 0;
  const burst = await quickest(3, async () => {
    round++;
    for (let i = 0; i < 500; i++)
      eu.rows.ip.upsert(row('eu', 2, 'ip', `10.2.${2 * round + Math.floor(i / 250)}.${i % 250}`));
    await until(() => tables.endpoints.size === 1 + round * 500, 'a burst', 30_000);
  });
  console.log(`500 changes cost both ends ${burst.toFixed(0)} ms`);

  const good = row('eu', 2, 'services', 'b');
  eu.rows.services.upsert({ key: good.key, value: '{"cluster":"us"}' });
  eu.rows.services.upsert(row('eu', 2, 'services', 'c'));
  await until(() => tables.services.has('eu/shop/c'), 'the next service');
  assert.ok(tables.services.has('eu/shop/b'), 'the last good value stays');
  assert.match(us.of('eu')!.refused[good.key]!, /services\/v1\/eu\/shop\/b: namespace: /);
  eu.rows.services.upsert(good);
  await until(() => Object.keys(us.of('eu')!.refused).length === 0, 'repaired');

  folder.set('eu', undefined);
  await until(() => tables.services.size + tables.nodes.size + tables.endpoints.size === 0, 'drained');
  assert.deepEqual(us.clusters.status, []);
  await folder.add(eu);
  await until(() => us.of('eu')?.ready === true, 'back');
});

test('an etcd that dies and comes back empty loses nobody anything', { skip }, async () => {
  await using mesh = await euReadByUs({ silence: 2 });
  const { eu, tables, of } = mesh;
  await until(() => of('eu')?.ready === true, 'ready');
  const log: string[] = [];
  for (const table of [tables.nodes, tables.identities, tables.endpoints, tables.services])
    table.subscribe(change => log.push(`${table.name} ${change.key} ${change.after ? 'put' : 'deleted'}`));
  await eu.etcd.kill();
  await until(() => of('eu')?.state === 'stale', 'stale');
  assert.match(of('eu')!.status, /not connected for \d+ s, what is known of it is that old: tcp: /);
  assert.ok(tables.services.has('eu/shop/a'));
  eu.rows.nodes.upsert(row('eu', 2, 'nodes', 'late'));
  await eu.etcd.initialize();
  await eu.etcd.run();
  await until(() => of('eu')?.ready === true, 'ready again', 20_000);
  await until(() => tables.nodes.has('eu/late'), 'what was new');
  assert.deepEqual(log, ['remote-nodes eu/late put']);

  // Paused, it answers nobody: pings notice.
  eu.etcd.signal('SIGSTOP');
  await until(() => of('eu')?.connected === false, 'silence noticed', 5000);
  assert.equal(of('eu')?.state, 'stale');
  eu.etcd.signal('SIGCONT');
  await until(() => of('eu')?.ready === true, 'ready after the pause', 20_000);
  assert.deepEqual(log, ['remote-nodes eu/late put']);
});

test('an etcd that is restored from a backup is brought up to date, and so is who reads it', {
  skip,
}, async () => {
  await using mesh = await euReadByUs();
  const { eu, tables, of } = mesh;
  eu.rows.services.upsert(row('eu', 2, 'services', 'left'));
  const moved = (address: string): EtcdRow => {
    const { key, value } = row('eu', 2, 'services', 'a');
    return { key, value: value.replace('10.2.0.7', address) };
  };
  const backendsOf = (name: string): string =>
    Object.keys(tables.services.get(`eu/shop/${name}`)?.backends[0] ?? {}).join();
  await until(() => tables.services.has('eu/shop/left') && of('eu')?.ready === true, 'ready');
  await eu.etcd.backUp();
  await eu.etcd.run();

  eu.rows.services.delete(row('eu', 2, 'services', 'left').key);
  eu.rows.services.upsert(row('eu', 2, 'services', 'late'));
  for (let at = 10; at < 20; at++) {
    eu.rows.services.upsert(moved(`10.2.0.${at}`));
    await until(() => backendsOf('a') === `10.2.0.${at}`, 'a change');
  }
  await until(
    () => tables.services.has('eu/shop/late') && !tables.services.has('eu/shop/left'),
    'all changes',
  );

  // Keys and leases of the past, and revisions that will come a second time.
  await eu.etcd.restore();
  await eu.etcd.run();
  eu.rows.services.upsert(moved('10.2.0.99'));
  await until(
    () => of('eu')?.ready === true && backendsOf('a') === '10.2.0.99',
    'what changed meanwhile',
    20_000,
  );
  await until(
    () => tables.services.has('eu/shop/late') && !tables.services.has('eu/shop/left'),
    'what is so',
    20_000,
  );
  assert.deepEqual(of('eu')!.refused, {});
});

test('a cluster is dead when neither its nodes nor its etcd answer, and is trusted when it has been read again', {
  skip,
}, async () => {
  const unheard = new Table<ClusterVerdict>({ name: 'unheard', keyOf: each => each.cluster });
  // Pings are slow here: who finds the silence is the question that silent nodes are a reason for.
  const slow = { ...timing, pingInterval: 60_000, pingTimeout: 60_000 };
  await using mesh = await euReadByUs({
    verdicts: { clusters: unheard, remoteNodes: remoteNodeVerdicts() },
    timing: slow,
  });
  const { eu, tables, of } = mesh;
  await until(() => of('eu')?.ready === true, 'ready');
  const log: string[] = [];
  tables.clusters.subscribe(({ before, after }) => {
    if (before?.dead !== after?.dead) log.push(after?.dead ? 'dead' : 'trusted');
  });
  assert.equal(tables.clusters.get('eu')?.dead, false);

  // Its nodes alone are silent: somebody may have begun to filter ICMP.
  unheard.upsert({ cluster: 'eu', by: ['us-a', 'us-b'], agreed: true });
  await until(() => of('eu')!.warnings.length > 0, 'a warning');
  assert.match(of('eu')!.warnings[0]!, /^none of its nodes answers us-a, us-b, but its control plane does/);
  assert.equal(of('eu')!.state, 'ready');

  eu.etcd.signal('SIGSTOP');
  await until(() => of('eu')?.state === 'dead', 'dead', 10_000);
  assert.equal(tables.clusters.get('eu')?.dead, true);
  assert.match(
    of('eu')!.status,
    /^dead for \d+ s: no new .* none of its nodes answers us-a, us-b, nor its control plane: /,
  );
  assert.ok(of('eu')!.deadAge! >= 0);
  assert.ok(tables.services.has('eu/shop/a'), 'what is known of it is kept');

  // One of the two is not enough.
  eu.etcd.signal('SIGCONT');
  await until(() => of('eu')?.connected === true, 'connected again', 20_000);
  assert.equal(of('eu')!.state, 'dead');
  unheard.delete('eu');
  await until(() => of('eu')?.state === 'ready', 'trusted', 10_000);
  assert.deepEqual(log, ['dead', 'trusted']);
});

test('a node falls silent that may have run the control plane: it is asked at once, and silent until all is read again', {
  skip,
}, async () => {
  const clusters = new Table<ClusterVerdict>({ name: 'unheard', keyOf: each => each.cluster });
  const accused = remoteNodeVerdicts();
  const slow = { ...timing, pingInterval: 60_000, pingTimeout: 60_000 };
  const verdicts = { clusters, remoteNodes: accused };
  await using mesh = await euReadByUs({ verdicts, timing: slow });
  const { eu, tables, of } = mesh;
  await until(() => of('eu')?.ready === true, 'ready');
  assert.equal(tables.clusters.get('eu')?.silent, false);
  assert.equal(tables.clusters.get('eu')?.controlPlaneNode, 'eu-control-plane');
  const missing: string[] = [];
  tables.services.subscribe(({ key, after }) => {
    if (!after) missing.push(key);
  });

  // Its etcd lives: it is believed.
  accused.upsert({ cluster: 'eu', node: 'a', by: ['us-a'], agreed: false });
  eu.rows.services.upsert(row('eu', 2, 'services', 'b'));
  await until(() => tables.services.has('eu/shop/b'), 'a change');
  await until(() => tables.clusters.get('eu')?.silent === false, 'it answers');
  accused.delete('eu/a');

  eu.etcd.signal('SIGSTOP');
  accused.upsert({ cluster: 'eu', node: 'a', by: ['us-a', 'us-b'], agreed: true });
  await until(() => tables.clusters.get('eu')?.silent === true, 'silent', 10_000);
  assert.equal(tables.clusters.get('eu')?.dead, false);
  assert.match(
    of('eu')!.warnings[0]!,
    /^its node a does not answer us-a, us-b, and its control plane cannot say whether it is dead/,
  );
  eu.etcd.signal('SIGCONT');
  await until(() => of('eu')?.lastOutage !== undefined, 'everything is read again', 20_000);
  await until(() => tables.clusters.get('eu')?.silent === false, 'it speaks again');
  assert.deepEqual(missing, []);
  await until(() => of('eu')!.warnings.length === 0, 'no warning');
});

test('a connection to somebody who does not answer probes is tried, and given up at once if nothing comes by it', {
  skip,
}, async () => {
  const slow = { ...timing, pingInterval: 60_000, pingTimeout: 60_000 };
  await using mesh = await euReadByUs({ timing: slow });
  const { eu, tables, of, clusters } = mesh;
  await until(() => of('eu')?.ready === true, 'ready');
  assert.equal(tables.clusters.get('eu')?.via, '127.0.0.1');

  // It answers: ICMP alone is missing.
  clusters.unheardVia('eu');
  eu.rows.services.upsert(row('eu', 2, 'services', 'b'));
  await until(() => tables.services.has('eu/shop/b'), 'a change');
  await until(() => tables.clusters.get('eu')?.silent === false, 'it answers');

  eu.etcd.signal('SIGSTOP');
  clusters.unheardVia('eu');
  await until(() => of('eu')?.connected === false, 'given up', 10_000);
  assert.match(of('eu')!.lastFailure!.message, /no answer within 500 ms/);
  assert.equal(tables.clusters.get('eu')?.via, '');
  eu.etcd.signal('SIGCONT');
  await until(() => of('eu')?.ready === true, 'ready again', 20_000);
});

test('a cluster whose control plane alone is silent is stale, and its age is shown', { skip }, async () => {
  await using mesh = await euReadByUs();
  const { eu, tables, of } = mesh;
  await until(() => of('eu')?.ready === true, 'ready');
  assert.equal(of('eu')!.lastOutage, undefined);
  eu.etcd.signal('SIGSTOP');
  await until(() => of('eu')?.state === 'stale', 'stale', 10_000);
  await until(() => of('eu')!.disconnectedAge! > 0, 'its age');
  assert.equal(tables.clusters.get('eu')?.dead, false);
  eu.etcd.signal('SIGCONT');
  await until(() => of('eu')?.ready === true, 'ready again', 20_000);
  await until(() => of('eu')!.lastOutage !== undefined, 'when it was heard again');
  assert.ok(of('eu')!.lastOutage!.seconds > 0 && of('eu')!.lastOutage!.age >= 0);
});

test('a cluster that does not see its own nodes die says so, and its nodes are looked at by others until it does', {
  skip,
}, async () => {
  await using mesh = await euReadByUs();
  const { eu, of, tables } = mesh;
  const isSilent = (): boolean => tables.clusters.get('eu')?.silent === true;
  await until(() => of('eu')?.ready === true && !isSilent(), 'ready');
  eu.exporter.blind(true);
  await until(isSilent, 'its nodes are probed by others');
  assert.equal(of('eu')!.state, 'ready', 'all else that it says is true');
  assert.match(of('eu')!.warnings.join(), /^its own API server does not answer its control plane/);
  eu.exporter.blind(false);
  await until(() => !isSilent(), 'it sees them again');
  // A reader that is not connected when it is over learns it, too.
  eu.exporter.blind(true);
  await until(isSilent, 'once more');
  await eu.etcd.kill();
  eu.exporter.blind(false);
  await eu.etcd.run();
  await until(() => of('eu')?.ready === true && !isSilent(), 'ready, and not blind');
  assert.deepEqual(of('eu')!.warnings, []);
});

test('heartbeats that stop are noticed though etcd answers', { skip }, async () => {
  await using mesh = await euReadByUs({ silence: 0.3 });
  const { eu, of } = mesh;
  await until(() => of('eu')?.ready === true, 'ready');
  await eu.stopExport();
  await until(() => of('eu')?.state === 'stale', 'stale');
  assert.match(of('eu')!.status, /^(no heartbeat for|not connected for .* no heartbeat for)/);
  assert.ok(of('eu')!.heartbeatAge! >= 0.3);
});

test('a cluster that leaves takes back all it told before its etcd goes', { skip }, async () => {
  await using mesh = await euReadByUs();
  const { eu, tables, of } = mesh;
  await until(() => of('eu')?.ready === true, 'ready');
  const order: string[] = [];
  for (const table of [tables.nodes, tables.identities, tables.endpoints, tables.services])
    table.subscribe(() => order.push(table.name));
  await eu.stopExport();
  {
    using admin = await eu.etcd.connect(adminUser('eu'));
    assert.equal(await withdrawExport(admin, 'eu'), 5);
    assert.equal(await withdrawExport(admin, 'eu'), 0);
  }
  await until(() => tables.nodes.size + tables.endpoints.size + tables.services.size === 0, 'forgotten');
  await until(() => order.length === 4, 'every table');
  await eu.etcd.kill();
  await until(() => of('eu')?.connected === false, 'gone');
  assert.match(of('eu')!.status, /before, it took back all it had told, as with clustermesh disable/);
});

test('what is known of a cluster that keeps us out goes after a while, and comes back with the right', {
  skip,
}, async () => {
  await using mesh = await euReadByUs({ silence: 2 });
  const { eu, tables, of } = mesh;
  await until(() => of('eu')?.ready === true, 'ready');
  eu.admitted = [];
  {
    // Before it is restarted: who comes back first would find the door open.
    using admin = await eu.etcd.connect(adminUser('eu'));
    await syncRemoteUsers(admin, []);
  }
  await eu.etcd.kill();
  await eu.etcd.run();
  await until(() => of('eu')?.lastFailure?.layer === 'authentication', 'denied');
  assert.ok(tables.services.has('eu/shop/a'), 'it stays at first');
  await until(() => tables.nodes.size + tables.endpoints.size + tables.services.size === 0, 'forgotten');
  assert.equal(of('eu')?.state, 'refused');
  assert.match(of('eu')!.status, /^not among the clusters it lets in, so nothing of it is used/);
  // Its session may begin anew at any time, and then lets in whom it knows.
  eu.admitted = ['us'];
  using admin = await eu.etcd.connect(adminUser('eu'));
  await syncRemoteUsers(admin, ['us']);
  await until(() => of('eu')?.ready === true, 'ready again');
  assert.ok(tables.services.has('eu/shop/a'));
});

test('a client certificate that ends within 30 days is named with the command that renews it, also once it has ended', {
  skip,
}, async () => {
  await using eu = await Cluster.start('eu', 2);
  await using ap = await Cluster.start('ap', 3);
  for (const each of [eu, ap]) each.fill();
  using folder = new Folder();
  await folder.add(eu, 'eu', remoteUser('us'), 31);
  await folder.add(ap, 'ap', remoteUser('us'), 29);
  using us = new Reader(folder);
  const { of } = us;
  await until(() => ['eu', 'ap'].every(name => of(name)?.ready), 'both ready');
  assert.deepEqual(of('eu')!.warnings, []);
  const [warning] = of('ap')!.warnings;
  assert.match(
    warning!,
    /^the client certificate ends on \d{4}-\d\d-\d\d: renew it with isthmus clustermesh connect --context us --destination-context ap$/,
  );
  await folder.add(ap, 'ap', remoteUser('us2'), -1);
  await until(() => of('ap')?.warnings[0]?.includes(' ended on ') ?? false, 'it has ended');
  await until(() => /tls: .*certificate/.test(of('ap')?.status ?? ''), 'and lets nobody in any more');
  await folder.add(ap, 'ap', remoteUser('us3'));
  await until(() => of('ap')!.warnings.length === 0, 'renewed');
});

test('errors are clear, and concern one cluster only', { skip }, async () => {
  await using eu = await Cluster.start('eu', 2);
  await using twin = await Cluster.start('twin', 2);
  await using own = await Cluster.start('own', 1);
  for (const each of [eu, twin, own]) each.fill();
  using folder = new Folder();
  await folder.add(eu);
  const nodes = new Table<NodeRow>({ name: 'nodes', keyOf: each => each.name });
  nodes.upsert(ownNode('us-worker', '10.1.0.0/16'));
  using us = new Reader(folder, { syncTimeout: 300, nodes });
  const { of, tables } = us;
  await until(() => of('eu')?.ready === true, 'ready');
  await folder.add(twin);
  await folder.add(own);
  await folder.add(eu, 'other');
  await folder.add(eu, 'stranger', 'remote-nobody');
  folder.set(
    'gone',
    'endpoints: ["https://127.0.0.1:1"]\ntrusted-ca-file: /x\ncert-file: /x\nkey-file: /x\n',
  );
  folder.set(
    'plain',
    'endpoints: ["http://127.0.0.1:1"]\ntrusted-ca-file: /x\ncert-file: /x\nkey-file: /x\n',
  );
  folder.set('us', 'endpoints: []');
  const says = (name: string, text: RegExp) =>
    until(() => text.test(of(name)?.status ?? ''), `${name}: ${text}; found ${of(name)?.status}`);
  await says('twin', /cluster ID 2 of twin is also that of eu, which was there first/);
  await says('own', /cluster ID 1 of own is that of this cluster \(us\)/);
  await says('other', /authentication: cilium\/cluster-config\/other may not be read/);
  await says('stranger', /^(authentication|etcd): /);
  await says('gone', /^files: .*127.0.0.1:1.*ENOENT/);
  await says('plain', /found "http:\/\/127.0.0.1:1", expected https/);
  await says('us', /this cluster's own name/);
  await until(() => of('eu')?.ready === true, 'eu is as before');
  assert.equal(tables.services.size, 1);

  using root = await eu.etcd.connect(adminUser('eu'));
  const overlapping = row('eu', 2, 'nodes', 'overlapping');
  const value = overlapping.value.replace('10.2.0.0', '10.1.0.0');
  await root.kv.put({ key: encodeKey(overlapping.key), value: encodeKey(value) });
  await until(() => tables.nodes.has('eu/overlapping'), 'a node with a foreign range');
  const warnings = (): string[] => of('eu')!.warnings.filter(each => each.includes('overlap'));
  await until(() => warnings().length > 0, 'the ranges have been compared');
  const overlaps = warnings();
  assert.deepEqual(overlaps, [
    'pod CIDRs overlap: 10.1.0.0/24 of eu/overlapping and 10.1.0.0/16 of us/us-worker',
  ]);
});

test('a cluster that has another ID now is a different one: everything old goes', { skip }, async () => {
  await using mesh = await euReadByUs();
  const { eu, tables, of } = mesh;
  await until(() => of('eu')?.ready === true, 'ready');
  {
    using root = await eu.etcd.connect(adminUser('eu'));
    const renumbered = '{"id":3,"capabilities":{"syncedCanaries":true,"maxConnectedClusters":255}}';
    await root.kv.put({ key: encodeKey('cilium/cluster-config/eu'), value: encodeKey(renumbered) });
  }
  await eu.etcd.kill();
  await eu.etcd.run();
  await until(() => of('eu')?.clusterId === 3, 'the new ID');
  await until(() => tables.nodes.size + tables.endpoints.size + tables.services.size === 0, 'drained');
  await until(
    () => Object.keys(of('eu')!.refused).length === 4,
    'what still speaks of the old ID is refused',
  );
});

test('a cluster that was reinstalled under its name and ID is trusted again by connect, and nothing of the old one stays', {
  skip,
}, async () => {
  await using old = await Cluster.start('eu', 2);
  old.fill();
  old.rows.services.upsert(row('eu', 2, 'services', 'old'));
  using folder = new Folder();
  await folder.add(old);
  using us = new Reader(folder);
  const { of, tables } = us;
  await until(() => of('eu')?.ready === true && tables.services.has('eu/shop/old'), 'ready');
  await old.etcd.kill();

  await using eu = await Cluster.start('eu', 2);
  eu.fill();
  // Its nodes have the old addresses; its CA is another.
  const { ca, cert, key } = await old.etcd.certificate(remoteUser('us'));
  folder.set(
    'eu',
    `endpoints: ["https://127.0.0.1:${eu.etcd.endpoint.port}"]\ntrusted-ca-file: ${ca}\ncert-file: ${cert}\nkey-file: ${key}\n`,
  );
  await until(() => /tls: .*not signed by the CA/.test(of('eu')!.status), 'the certificate is refused');
  assert.equal(of('eu')!.state, 'stale');
  assert.ok(tables.services.has('eu/shop/old'), 'kept: this may be an attack');

  await folder.add(eu);
  await until(() => of('eu')?.ready === true, 'ready again', 20_000);
  await until(() => !tables.services.has('eu/shop/old'), 'the old one is gone');
  assert.ok(tables.services.has('eu/shop/a'));
});

test('a cluster that was renamed is refused under its old name, and used under the new one when that is the only one', {
  skip,
}, async () => {
  await using mesh = await euReadByUs({ silence: 2 });
  const { eu, folder, tables, of } = mesh;
  await until(() => of('eu')?.ready === true, 'ready');
  await eu.stopExport();
  await eu.etcd.kill();

  await using europe = await Cluster.start('europe', 2);
  europe.fill();
  await folder.add(europe, 'eu');
  await until(() => of('eu')?.state === 'refused', 'refused', 20_000);
  assert.match(
    of('eu')!.status,
    /cluster-config\/eu may not be read: .* or it belongs to a cluster of another name/,
  );
  assert.equal(tables.services.size, 0, 'nothing of the old name is used');

  await folder.add(europe);
  await until(() => of('europe')?.state === 'refused', 'the old name holds the ID', 20_000);
  assert.match(of('europe')!.status, /ID 2 .*eu/);
  folder.set('eu', undefined);
  await until(() => of('europe')?.ready === true && tables.services.has('europe/shop/a'), 'used', 20_000);
});

test('the etcd of a real Cilium is read, its own objects and its copies of another cluster', {
  skip,
}, async () => {
  await using ca = await LocalEtcd.start('ca', binary!);
  {
    using root = await ca.connect(adminUser('ca'));
    for (const { key, value } of ciliumKeys())
      await root.kv.put({ key: encodeKey(key), value: encodeKey(value) });
    await syncRemoteUsers(root, ['us']);
  }
  using folder = new Folder();
  for (const [cluster, user] of [
    ['ca', remoteUser('us')],
    ['cb', localUser('ca')],
  ] as const) {
    const { ca: authority, cert, key } = await ca.certificate(user);
    folder.set(
      cluster,
      `endpoints: ["https://127.0.0.1:${ca.endpoint.port}"]\ntrusted-ca-file: ${authority}\ncert-file: ${cert}\nkey-file: ${key}\n`,
    );
  }
  using us = new Reader(folder, { clusterId: 9 });
  const { of, tables } = us;
  await until(() => of('ca')?.ready === true && of('cb')?.ready === true, 'both ready');
  assert.deepEqual([of('ca')?.cached, of('cb')?.cached], [false, true]);
  assert.deepEqual([of('ca')?.refused, of('cb')?.refused], [{}, {}]);
  for (const name of ['ca', 'cb'])
    for (const kind of datapathKinds) assert.ok(of(name)!.counts[kind]! >= 2, `${name} ${kind}`);
  assert.ok(tables.services.has('ca/default/gsvc') && tables.services.has('cb/default/gsvc'));
});

/** What a Cilium 1.20.2 keeps in the etcd of cluster ca, which is connected to cluster cb. */
function ciliumKeys(): { key: string; value: string }[] {
  const file = new URL('../../test/etcd/fixtures/cilium-1.20.2-ca.json', import.meta.url);
  return z
    .array(z.object({ key: z.string(), value: z.string() }))
    .parse(JSON.parse(readFileSync(file, 'utf8')));
}

function ownNode(name: string, podCidr: string): NodeRow {
  return {
    name,
    uid: name,
    labels: {},
    annotations: {},
    addresses: [],
    podCidrs: [podCidr],
    healthIp: '',
    ingressIp: '',
    encryptionKey: 0,
    bootId: '',
  };
}

/** A table of slices that are complete. */
function slicesOf(...rows: readonly RawRow[]): Table<RawRow> {
  const slices = new Table<RawRow>({ name: 'slices', keyOf: each => each.key });
  for (const each of rows) slices.upsert(each);
  slices.markSynced();
  return slices;
}

test('a cluster that exports EndpointSlices only is read as one that exports services', {
  skip,
}, async () => {
  const slices = new Table<RawRow>({ name: 'slices', keyOf: each => each.key });
  slices.upsert(sliceRow('eu', 2, 'a', 'a-1', ['10.2.0.7']));
  await using eu = await Cluster.start('eu', 2, slices, true);
  eu.fill();
  using folder = new Folder();
  await folder.add(eu);
  using us = new Reader(folder);
  await until(() => us.of('eu')?.status === 'synchronization in progress for endpoint slices', 'the rest');
  assert.equal(us.tables.services.synced, false, 'slices are awaited');
  slices.markSynced();
  await until(() => us.of('eu')?.ready === true, 'ready');
  assert.equal(us.tables.services.synced, true);
  assert.deepEqual(us.of('eu')!.counts, { nodes: 1, identities: 1, ip: 1, endpointslices: 1 });
  const states = () => {
    const { backends, terminating, notReady } = us.tables.services.get('eu/shop/a')!;
    return [backends, terminating, notReady]
      .map(each => (each ?? []).flatMap(part => Object.keys(part)).join(' '))
      .join('; ');
  };
  assert.equal(states(), '10.2.0.7; ; ');
  slices.upsert(sliceRow('eu', 2, 'a', 'a-2', [['10.2.0.8', 'draining'], '10.2.0.9']));
  await until(() => states() === '10.2.0.7 10.2.0.9; 10.2.0.8; ', 'a second slice');

  // One that lies about whose it is changes nothing, and is told of.
  const { key, value } = sliceRow('us', 1, 'a', 'a-1', ['10.1.0.1']);
  slices.upsert({ key: key.replace('/us/', '/eu/'), value });
  await until(() => Object.keys(us.of('eu')!.refused).length === 1, 'refused');
  assert.match(Object.values(us.of('eu')!.refused)[0]!, /shop\/a-1: cluster: found "us", expected "eu"/);
  assert.equal(states(), '10.2.0.7 10.2.0.9; 10.2.0.8; ');
  for (const name of ['a-1', 'a-2']) slices.delete(key.replace('us/shop/a-1', `eu/shop/${name}`));
  await until(() => !us.tables.services.has('eu/shop/a'), 'an end');
});

test('a cluster of Cilium that goes over to slices only, and back, loses nobody a backend', {
  skip,
}, async () => {
  const slices = slicesOf(sliceRow('eu', 2, 'a', 'a-1', ['10.2.0.7']));
  await using eu = await Cluster.start('eu', 2, slices);
  eu.fill();
  using folder = new Folder();
  await folder.add(eu);
  using us = new Reader(folder);
  await until(() => us.of('eu')?.ready === true, 'ready');
  assert.deepEqual(us.of('eu')!.counts, { nodes: 1, identities: 1, ip: 1, services: 1 });
  const log: string[] = [];
  us.tables.services.subscribe(({ key, after }) => log.push(`${key} ${after ? 'put' : 'gone'}`));
  /** Its clustermesh-apiserver comes back with another setting and, as its etcd is in the same pod, with nothing of before. */
  const restart = async (change: () => void): Promise<void> => {
    await eu.etcd.kill();
    change();
    await eu.etcd.initialize();
    await eu.etcd.run();
  };
  const service = row('eu', 2, 'services', 'a');
  await restart(() => {
    eu.exporter.configure({ ...eu.config, endpointSlicesExportMode: 'endpointslices-only' });
    eu.rows.services.delete(service.key);
    slices.upsert(sliceRow('eu', 2, 'b', 'b-1', ['10.2.0.8']));
  });
  await until(() => us.of('eu')?.counts.endpointslices === 2 && us.of('eu')!.ready, 'slices', 20_000);
  assert.deepEqual(log, ['eu/shop/b put']);
  await restart(() => {
    eu.exporter.configure(eu.config);
    eu.rows.services.upsert(service);
  });
  await until(() => us.of('eu')?.counts.services === 1 && us.of('eu')!.ready, 'services', 20_000);
  assert.deepEqual(log, ['eu/shop/b put', 'eu/shop/b gone']);
});
