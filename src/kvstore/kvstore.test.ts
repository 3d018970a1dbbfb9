import assert from 'node:assert/strict';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { findEtcd, LocalEtcd, quickest, until } from '../../test/etcd/local-etcd.ts';
import { adminUser, remoteUser, syncRemoteUsers } from '../clustermesh/access.ts';
import { Reconciler } from '../table/reconciler.ts';
import { Table } from '../table/table.ts';
import type { EtcdConnection } from './connection.ts';
import { parseEndpoints } from './endpoint.ts';
import { describeFailure } from './failure.ts';
import { Leases } from './lease.ts';
import { decodeText, encodeKey, getKey, listPrefix, prefixEnd, prefixRange } from './range.ts';
import { dial, keepSession } from './session.ts';
import { type EtcdRow, EtcdTarget } from './target.ts';
import { type FollowOptions, PrefixFollower } from './watch.ts';
import type { Watch } from './watch-stream.ts';

const binary = findEtcd();
const skip = binary ? false : 'no etcd executable: put one into the PATH';
const admin = adminUser('us');
let etcd: LocalEtcd;

before(async () => {
  if (binary) etcd = await LocalEtcd.start('us', binary);
});
after(async () => etcd?.[Symbol.asyncDispose]());

function put(connection: EtcdConnection, key: string, value: string, lease = 0n) {
  return connection.kv.put({ key: encodeKey(key), value: encodeKey(value), lease });
}

function collector(prefix: string, options: FollowOptions = {}) {
  const entries = new Map<string, string>();
  const log: string[] = [];
  let lists = 0;
  const follower = new PrefixFollower(
    prefix,
    {
      put: entry => {
        if (entries.get(entry.key) !== entry.value) log.push(`put ${entry.key}=${entry.value}`);
        entries.set(entry.key, entry.value);
      },
      delete: key => {
        log.push(`delete ${key}`);
        entries.delete(key);
      },
      listed: () => lists++,
    },
    options,
  );
  return { entries, log, follower, lists: () => lists };
}

test('prefix ends', () => {
  assert.deepEqual(prefixEnd('cilium/.heartbeat'), encodeKey('cilium/.heartbeau'));
  assert.deepEqual(prefixEnd('a/'), encodeKey('a0'));
});

test('endpoints: names with several addresses, https only', () => {
  const aliases = new Map([['eu.mesh.cilium.io', ['10.0.0.1', '10.0.0.2']]]);
  assert.deepEqual(parseEndpoints(['https://eu.mesh.cilium.io:32379'], aliases), [
    { host: '10.0.0.1', port: 32379, serverName: 'eu.mesh.cilium.io' },
    { host: '10.0.0.2', port: 32379, serverName: 'eu.mesh.cilium.io' },
  ]);
  assert.throws(
    () => parseEndpoints(['http://10.0.0.1:2379']),
    /found "http:\/\/10.0.0.1:2379", expected https/,
  );
});

test('users are matched by common name; a remote reads its ranges and writes nothing', { skip }, async () => {
  using root = await etcd.connect(admin);
  await put(root, 'cilium/state/nodes/v1/us/a', '1');
  await put(root, 'cilium/cluster-config/eu', 'secret of another');
  await syncRemoteUsers(root, ['eu', 'ap']);
  using remote = await etcd.connect(remoteUser('eu'));
  assert.equal((await getKey(remote, 'cilium/state/nodes/v1/us/a'))?.value, '1');
  await listPrefix(remote, 'cilium/.heartbeat', () => undefined);
  await listPrefix(remote, 'cilium/synced/us/', () => undefined);
  await assert.rejects(put(remote, 'cilium/state/nodes/v1/us/a', 'x'), /permission denied/);
  await assert.rejects(getKey(remote, 'cilium/cluster-config/eu'), /permission denied/);
  await assert.rejects(
    listPrefix(remote, 'cilium/', () => undefined),
    /permission denied/,
  );
  await assert.rejects(remote.lease.leaseGrant({ TTL: 1000n }).then(({ ID }) => put(remote, 'a', 'b', ID)));
  await assert.rejects(remote.auth.userList({}), /permission denied/);
  using shared = await etcd.connect('remote');
  assert.equal((await getKey(shared, 'cilium/state/nodes/v1/us/a'))?.value, '1');
  using stranger = await etcd.connect('nobody');
  await assert.rejects(getKey(stranger, 'cilium/state/nodes/v1/us/a'));
  assert.deepEqual(await syncRemoteUsers(root, ['ap']), { added: [], removed: ['remote-eu'] });
  await assert.rejects(getKey(remote, 'cilium/state/nodes/v1/us/a'));
});

test('failures name their layer', { skip }, async () => {
  const tls = await etcd.certificate(admin);
  const signal = AbortSignal.timeout(10_000);
  const layerOf = async (host: string, port: number, serverName: string | undefined, files = tls) => {
    try {
      using connection = await dial([{ host, port, serverName }], { tls: files }, signal);
      await connection.maintenance.status({});
      return 'none';
    } catch (error) {
      return describeFailure(error).layer;
    }
  };
  const { port } = etcd.endpoint;
  assert.equal(await layerOf('127.0.0.1', 1, undefined), 'tcp');
  assert.equal(await layerOf('127.0.0.1', port, 'wrong.example'), 'tls');
  assert.equal(await layerOf('name.invalid', port, 'name.invalid'), 'dns');
  assert.equal(await layerOf('127.0.0.1', port, undefined, { ...tls, ca: '/nonexistent' }), 'files');
  assert.equal(await layerOf('127.0.0.1', port, undefined), 'none');
});

test('a certificate of a wrong CA is named, whosever it is', { skip }, async () => {
  const tls = await etcd.certificate(admin);
  const foreign = await etcd.foreignCertificate(admin);
  const failure = (files: typeof tls) =>
    dial([etcd.endpoint], { tls: files }, AbortSignal.timeout(10_000)).then(
      () => assert.fail('it was accepted'),
      error => describeFailure(error),
    );
  const client = await failure({ ...foreign, ca: tls.ca });
  assert.equal(client.layer, 'tls');
  assert.match(
    client.message,
    /: the server refuses our certificate \(TLS alert: (unknown ca|bad certificate)\)$/,
  );
  const server = await failure({ ...tls, ca: foreign.ca });
  assert.equal(server.layer, 'tls');
  assert.match(server.message, /: the server's certificate is not signed by the CA it should be \([^;]*\)$/);
});

test('a follower survives compaction and reconnection with the smallest difference', { skip }, async () => {
  using root = await etcd.connect(admin);
  await put(root, 'follow/a', '1');
  await put(root, 'follow/b', '1');
  const { entries, log, follower, lists } = collector('follow/');
  {
    const stop = new AbortController();
    using connection = await etcd.connect(admin);
    const done = follower.follow(connection, stop.signal);
    await until(() => lists() === 1, 'first list');
    await put(root, 'follow/a', '2');
    await until(() => entries.get('follow/a') === '2', 'an event');
    stop.abort();
    await done;
  }
  await put(root, 'follow/c', '1');
  await root.kv.deleteRange({ key: encodeKey('follow/b') });
  const { header } = await put(root, 'other', 'x');
  await root.kv.compact({ revision: header!.revision, physical: true });
  log.length = 0;
  const stop = new AbortController();
  using connection = await etcd.connect(admin);
  const done = follower.follow(connection, stop.signal);
  await until(() => lists() === 2, 'second list');
  assert.deepEqual(log, ['put follow/c=1', 'delete follow/b']);
  stop.abort();
  await done;
});

test('what a watch did not tell is found and mended, and what it told is left alone', { skip }, async () => {
  using root = await etcd.connect(admin);
  for (const key of ['a', 'b', 'd']) await put(root, `verify/${key}`, '1');
  const repaired: string[] = [];
  const { entries, log, follower, lists } = collector('verify/', {
    verify: 50,
    grace: 50,
    onRepaired: keys => repaired.push(...keys),
  });
  using connection = await etcd.connect(admin);
  /** A watch that keeps to itself what happens to a, b and c. */
  const deaf: EtcdConnection = Object.create(connection, {
    check: { value: connection.check.bind(connection) },
    range: { value: connection.range.bind(connection) },
    watch: {
      value: (...of: Parameters<typeof connection.watch>): Watch => {
        const watch = connection.watch(...of);
        return {
          next: async () =>
            (await watch.next())?.filter(({ kv }) => !/[abc]$/.test(decodeText(kv?.key ?? new Uint8Array()))),
          [Symbol.dispose]: () => watch[Symbol.dispose](),
        };
      },
    },
  });
  const stop = new AbortController();
  const done = follower.follow(deaf, stop.signal);
  await until(() => lists() === 1, 'first list');
  log.length = 0;
  await put(root, 'verify/a', '2');
  await root.kv.deleteRange({ key: encodeKey('verify/b') });
  await put(root, 'verify/c', '1');
  await put(root, 'verify/d', '2');
  await until(() => repaired.length === 3, 'all are mended');
  assert.deepEqual(Object.fromEntries(entries), { 'verify/a': '2', 'verify/c': '1', 'verify/d': '2' });
  assert.deepEqual(repaired.toSorted(), ['verify/a', 'verify/b', 'verify/c']);
  assert.equal(log.filter(each => each === 'put verify/d=2').length, 1);
  stop.abort();
  await done;
});

/** A watch of what is below a prefix, beginning with the next change. */
async function watchFromNow(connection: EtcdConnection, prefix: string): Promise<Watch> {
  const { header } = await connection.maintenance.status({});
  return connection.watch(prefixRange(prefix), header!.revision + 1n);
}

const valuesOf = (events: Awaited<ReturnType<Watch['next']>>): string[] | undefined =>
  events?.map(({ kv }) => decodeText(kv!.value));

test('watches of one connection do not touch each other: one is refused, one compacted, one closed, one too slow', {
  skip,
}, async () => {
  using root = await etcd.connect(admin);
  await syncRemoteUsers(root, ['eu']);
  using reader = await etcd.connect(remoteUser('eu'));
  using good = await watchFromNow(reader, 'cilium/state/good/');
  using refused = await watchFromNow(reader, 'cilium/cluster-config/');
  using slow = await watchFromNow(reader, 'cilium/state/slow/');
  const closed = await watchFromNow(reader, 'cilium/state/closed/');
  const waiting = closed.next();
  closed[Symbol.dispose]();
  assert.equal(await waiting, undefined);
  await assert.rejects(refused.next(), /watch of cilium\/cluster-config\/ ended: .*permission denied/);

  await put(root, 'cilium/state/good/a', '1');
  await put(root, 'cilium/state/closed/a', '1');
  assert.deepEqual(valuesOf(await good.next()), ['1']);
  assert.equal(await closed.next(), undefined);
  const { header } = await put(root, 'cilium/state/good/a', '2');
  assert.deepEqual(valuesOf(await good.next()), ['2']);
  await root.kv.compact({ revision: header!.revision, physical: true });
  using late = reader.watch(prefixRange('cilium/state/late/'), 1n);
  assert.equal(await late.next(), undefined, 'to be found by a list');

  // One that etcd has just begun may be told later than others.
  await put(root, 'cilium/state/slow/a', '0');
  assert.deepEqual(valuesOf(await slow.next()), ['0']);
  const megabyte = 'x'.repeat(1_000_000);
  for (let n = 0; n < 5; n++) await put(root, 'cilium/state/slow/a', megabyte);
  await put(root, 'cilium/state/good/a', '3');
  assert.deepEqual(valuesOf(await good.next()), ['3'], 'nobody had asked for what came before');
  assert.equal(await slow.next(), undefined, 'to be found by a list');
});

test('a follower that falls behind its watch misses nothing', { skip }, async () => {
  using root = await etcd.connect(admin);
  using connection = await etcd.connect(admin);
  let opened = 0;
  /** The first watch says that it fell behind, after its first changes. */
  const behind: EtcdConnection = Object.create(connection, {
    check: { value: connection.check.bind(connection) },
    range: { value: connection.range.bind(connection) },
    watch: {
      value: (...of: Parameters<typeof connection.watch>): Watch => {
        const watch = connection.watch(...of);
        let asked = 0;
        const first = ++opened === 1;
        return {
          next: () => (first && ++asked > 1 ? Promise.resolve(undefined) : watch.next()),
          [Symbol.dispose]: () => watch[Symbol.dispose](),
        };
      },
    },
  });
  await put(root, 'lag/a', '1');
  const { log, follower, lists } = collector('lag/');
  const stop = new AbortController();
  const done = follower.follow(behind, stop.signal);
  await until(() => lists() === 1, 'first list');
  await root.kv.txn({
    success: ['b', 'c'].map(name => ({
      request: {
        case: 'requestPut' as const,
        value: { key: encodeKey(`lag/${name}`), value: encodeKey('1') },
      },
    })),
  });
  await until(() => lists() === 2, 'second list');
  await put(root, 'lag/d', '1');
  await until(() => log.includes('put lag/d=1'), 'it is watched again');
  assert.deepEqual(log, ['put lag/a=1', 'put lag/b=1', 'put lag/c=1', 'put lag/d=1']);
  stop.abort();
  await done;
});

test('10,000 keys are listed, and followed', { skip }, async t => {
  using root = await etcd.connect(admin);
  const rows = new Table<EtcdRow>({ name: 'rows', keyOf: row => row.key });
  const value = 'x'.repeat(250);
  for (let i = 0; i < 10_000; i++) rows.upsert({ key: `many/${i}`, value });
  rows.markSynced();
  const target = new EtcdTarget({ prefixes: ['many/'] });
  const stop = new AbortController();
  t.after(() => stop.abort());
  const served = target.serve(root, stop.signal);
  const writing = performance.now();
  await new Reconciler(rows, target, { signal: stop.signal }).whenSettled();
  const written = performance.now() - writing;
  using reader = await etcd.connect(admin);
  const { entries, follower, lists } = collector('many/');
  const read = await quickest(3, async () => {
    const once = collector('many/');
    const done = new AbortController();
    const following = once.follower.follow(reader, done.signal);
    await until(() => once.lists() === 1, 'list');
    done.abort();
    await following;
  });
  const done = follower.follow(reader, stop.signal);
  await until(() => lists() === 1, 'list');
  assert.equal(entries.size, 10_000);
  rows.upsert({ key: 'many/1', value: 'changed' });
  const changing = performance.now();
  await until(() => entries.get('many/1') === 'changed', 'change');
  const changed = performance.now() - changing;
  let round = 0;
  const burst = await quickest(3, async () => {
    const value = `burst ${++round}`;
    for (let i = 0; i < 500; i++) rows.upsert({ key: `many/${i}`, value });
    await until(() => entries.get('many/499') === value && entries.get('many/0') === value, 'burst');
  });
  console.log(
    `10,000 written in ${written.toFixed(0)} ms, read in ${read.toFixed(0)} ms; ` +
      `a change seen after ${changed.toFixed(1)} ms, 500 after ${burst.toFixed(0)} ms`,
  );
  stop.abort();
  await Promise.all([done, served]);
});

test('a value that is too large fails alone', { skip }, async t => {
  using root = await etcd.connect(admin);
  const rows = new Table<EtcdRow>({ name: 'rows', keyOf: row => row.key });
  for (let i = 0; i < 20; i++) rows.upsert({ key: `size/${i}`, value: 'small' });
  rows.upsert({ key: 'size/7', value: 'x'.repeat(2_000_000) });
  rows.markSynced();
  const stop = new AbortController();
  t.after(() => stop.abort());
  // One transaction takes them all, as if a limit here were set above that of the server.
  const target = new EtcdTarget({ prefixes: ['size/'], bytes: 100_000_000 });
  const served = target.serve(root, stop.signal);
  const reconciler = new Reconciler(rows, target, { signal: stop.signal });
  await reconciler.whenSettled();
  const found: string[] = [];
  await listPrefix(root, 'size/', page => void found.push(...Array.from(page, each => each.key)));
  assert.equal(found.length, 19);
  assert.deepEqual([...reconciler.status.failing.keys()], ['size/7']);
  assert.match(reconciler.status.failing.get('size/7')!.message, /too large|larger than max/);
  stop.abort();
  await served;
});

test('who waits for an answer is told when the connection ends', { skip }, async () => {
  await using own = await LocalEtcd.start('us', binary!);
  const tls = await own.certificate(admin);
  for (const end of ['closed', 'silent'] as const) {
    const options = { tls, ...(end === 'silent' ? { pingInterval: 100, pingTimeout: 100 } : {}) };
    using connection = await dial([own.endpoint], options, AbortSignal.timeout(20_000));
    await connection.maintenance.status({});
    own.signal('SIGSTOP');
    const started = performance.now();
    const waiting = assert.rejects(connection.auth.userList({}));
    if (end === 'closed') setImmediate(() => connection.close());
    await waiting;
    own.signal('SIGCONT');
    assert.ok(performance.now() - started < 9000, 'long before the request would time out');
  }
});

test('certificates are read anew for every connection', { skip }, async () => {
  await using own = await LocalEtcd.start('us', binary!);
  const serial = async (): Promise<string> => {
    using connection = await own.connect(admin);
    await connection.maintenance.status({});
    return connection.peerCertificate;
  };
  const before = await serial();
  assert.equal(await serial(), before);
  await own.rotate(admin);
  assert.notEqual(await serial(), before);
});

test('what an earlier process wrote is kept alive until it is written again, and missed when its lease is lost', {
  skip,
}, async () => {
  using root = await etcd.connect(admin);
  const signal = new AbortController().signal;
  const granted = async () => (await root.lease.leaseGrant({ TTL: 600n })).ID;
  const [old, other, written] = [await granted(), await granted(), '/left/a'];
  for (const key of [written, '/left/b']) await put(root, key, 'v', old);
  await put(root, '/left/c', 'v', other);
  await put(root, '/left/d', 'v');
  const leases = new Leases({ ttl: 300 });
  await listPrefix(root, '/left/', page => {
    for (const { key, lease } of page) leases.adopt(root, key, lease);
  });
  assert.equal(leases.count, 2);
  assert.deepEqual(await leases.keepAlive(root, signal), []);
  const own = await leases.bind(root, written);
  assert.ok(own !== old && own !== other, 'on a lease of its own from then on');
  await root.lease.leaseRevoke({ ID: other });
  assert.deepEqual(await leases.keepAlive(root, signal), ['/left/c']);
  await root.lease.leaseRevoke({ ID: old });
  assert.deepEqual(await leases.keepAlive(root, signal), ['/left/b']);
  assert.deepEqual(await leases.keepAlive(root, signal), []);
  assert.equal(await leases.bind(root, written), own);
});

test('what nobody desires goes, and a key whose name begins alike stays', { skip }, async t => {
  using root = await etcd.connect(admin);
  const stop = new AbortController();
  t.after(() => stop.abort());
  for (const key of ['own/a/1', 'own/a/2', 'one/eu', 'one/eu-2']) await put(root, key, 'v');
  const rows = new Table<EtcdRow>({ name: 'rows', keyOf: row => row.key });
  rows.upsert({ key: 'own/a/1', value: 'w' });
  rows.markSynced();
  const target = new EtcdTarget({ prefixes: ['own/a/'], keys: ['one/eu'] });
  const reconciler = new Reconciler(rows, target, { signal: stop.signal });
  await target.attach(root, stop.signal);
  await reconciler.whenSettled();
  const left: string[] = [];
  for (const prefix of ['own/', 'one/'])
    await listPrefix(root, prefix, page => {
      for (const { key, value } of page) left.push(`${key}=${value}`);
    });
  assert.deepEqual(left, ['own/a/1=w', 'one/eu-2=v']);
});

test('rows come back after a lost lease and after etcd lost its data', { skip }, async t => {
  await using own = await LocalEtcd.start('us', binary!);
  const rows = new Table<EtcdRow>({ name: 'rows', keyOf: row => row.key });
  for (let i = 0; i < 5; i++) rows.upsert({ key: `kept/${i}`, value: 'v' });
  rows.markSynced();
  const stop = new AbortController();
  t.after(() => stop.abort());
  const target = new EtcdTarget({ prefixes: ['kept/'], ttl: 2, keysPerLease: 2 });
  const reconciler = new Reconciler(rows, target, {
    signal: stop.signal,
    backoff: { first: 20, max: 200 },
  });
  target.onLost = () => void reconciler.repair();
  const tls = await own.certificate(admin);
  const session = keepSession(
    { endpoints: () => [own.endpoint], tls, backoff: { first: 20, max: 100 }, dialTimeout: 500 },
    stop.signal,
    (connection, signal) => target.serve(connection, signal),
  );
  await reconciler.whenSettled();
  const revoked = new Set<bigint>();
  const count = async (): Promise<number> => {
    try {
      using reader = await own.connect(admin);
      let found = 0;
      await listPrefix(reader, 'kept/', page => {
        found += [...page].filter(({ lease }) => !revoked.has(lease)).length;
      });
      return found;
    } catch {
      return -1;
    }
  };
  const allThere = async (what: string): Promise<void> => {
    for (const deadline = Date.now() + 10_000; (await count()) !== 5; )
      assert.ok(Date.now() < deadline, what);
  };
  await allThere('first write');
  {
    using root = await own.connect(admin);
    const { leases } = await root.lease.leaseLeases({});
    // More where a busy machine let one of them end.
    assert.ok(leases.length >= 3);
    for (const { ID } of leases) {
      revoked.add(ID);
      await root.lease.leaseRevoke({ ID });
    }
  }
  await allThere('after revoked leases');
  await own.kill();
  await own.initialize();
  await own.run();
  await allThere('after data loss');
  stop.abort();
  await session;
});

test('the kernel asks every second whether the other end of a connection is there', { skip }, async () => {
  using connection = await etcd.connect(admin);
  const to = connection.endpoint.port.toString(16).toUpperCase().padStart(4, '0');
  // Of proc(5): rem_address, where a timer of keep-alive is set 02 and the ticks of 10 ms that are left, and the inode.
  const waiting = new RegExp(`: \\S+ \\S+:${to} 01 \\S+ 02:([0-9A-F]{8}) \\S+ +\\d+ +\\d+ (\\d+) `, 'g');
  let ticks: number[] = [];
  await until(() => {
    const ours = new Set(readdirSync('/proc/self/fd').map(fd => targetOf(`/proc/self/fd/${fd}`)));
    ticks = [...readFileSync('/proc/self/net/tcp', 'utf8').matchAll(waiting)]
      .filter(([, , inode]) => ours.has(`socket:[${inode}]`))
      .map(([, left]) => Number.parseInt(left!, 16));
    return ticks.length > 0;
  }, 'a keep-alive timer');
  assert.ok(Math.max(...ticks) <= 100, `${ticks.join()} ticks`);
});

test('an etcd that reached its quota takes writes again: what it kept of the past goes', {
  skip,
}, async t => {
  await using own = await LocalEtcd.start('us', binary!);
  await own.kill('SIGTERM');
  own.arguments = ['--quota-backend-bytes=8388608'];
  await own.run();
  const rows = new Table<EtcdRow>({ name: 'rows', keyOf: row => row.key });
  rows.markSynced();
  const stop = new AbortController();
  t.after(() => stop.abort());
  const target = new EtcdTarget({ prefixes: ['full/'] });
  const full: string[] = [];
  const reconciler = new Reconciler(rows, target, {
    signal: stop.signal,
    backoff: { first: 20, max: 200 },
    onError: (_, { message }) => full.push(message),
  });
  const tls = await own.certificate(admin);
  const session = keepSession({ endpoints: () => [own.endpoint], tls }, stop.signal, (connection, signal) =>
    target.serve(connection, signal),
  );
  // Every value alone fits well; their history does not. How much of it etcd lets through is its own affair.
  let version = 0;
  const isFull = (): boolean => full.some(each => each.includes('database space exceeded'));
  for (; !isFull() && version < 200; version++) {
    rows.upsert({ key: 'full/a', value: `${version} ${'x'.repeat(700_000)}` });
    await until(() => reconciler.status.quiet && !reconciler.status.failing.size, `version ${version}`);
  }
  assert.ok(isFull(), full.join());
  using reader = await own.connect(admin);
  const { value } = (await getKey(reader, 'full/a'))!;
  assert.equal(Number.parseInt(value, 10), version - 1);
  const { alarms } = await reader.maintenance.alarm({});
  assert.deepEqual(alarms, []);
  stop.abort();
  await session;
});

test('a dead endpoint is left for another, a silent one is noticed by pings', { skip }, async () => {
  await using own = await LocalEtcd.start('us', binary!);
  const tls = await own.certificate(admin);
  const stop = new AbortController();
  const dead = { host: '127.0.0.1', port: 1, serverName: undefined };
  let sessions = 0;
  const failures: string[] = [];
  const session = keepSession(
    {
      endpoints: () => [dead, own.endpoint],
      tls,
      pingInterval: 200,
      pingTimeout: 200,
      dialTimeout: 300,
      backoff: { first: 20, max: 100 },
      onFailure: ({ message }) => failures.push(message),
    },
    stop.signal,
    async (connection, signal) => {
      sessions++;
      await collector('quiet/').follower.follow(connection, signal);
    },
  );
  await until(() => sessions === 1, 'first session');
  own.signal('SIGSTOP');
  await until(() => failures.length > 0, 'silence noticed');
  own.signal('SIGCONT');
  await until(() => sessions >= 2, 'second session');
  stop.abort();
  await session;
});

/** What a link of /proc leads to; '' if it is gone. */
function targetOf(link: string): string {
  try {
    return readlinkSync(link);
  } catch {
    return '';
  }
}
