import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findEtcd, LocalEtcd } from '../../test/etcd/local-etcd.ts';
import type { EtcdConnection } from '../kvstore/connection.ts';
import type { EtcdFailure } from '../kvstore/failure.ts';
import { encodeKey } from '../kvstore/range.ts';
import { adminUser, localUser, remoteUser, syncRemoteUsers } from './access.ts';
import { readConfigEntry } from './config-entry.ts';
import { clusterConfigKey, reportKey } from './layout.ts';
import type { MirrorReport } from './mirror-report.ts';

const binary = findEtcd();
const skip = binary ? false : 'no etcd executable: put one into the PATH';

/** Waits for a configuration; `missing` resolves to why it is not there yet, each time that this is told. */
function awaited(connection: EtcdConnection, cluster: string) {
  const stop = new AbortController();
  let told = Promise.withResolvers<EtcdFailure>();
  const entry = readConfigEntry(connection, cluster, failure => told.resolve(failure), stop.signal);
  entry.catch(() => undefined);
  const missing = async (): Promise<string> => {
    const failure = await told.promise;
    told = Promise.withResolvers();
    return failure.message;
  };
  return { entry, missing, stop };
}

const put = (connection: EtcdConnection, key: string, value: string) =>
  connection.kv.put({ key: encodeKey(key), value: encodeKey(value) });

test('a configuration that is not there is read when it is written, at a cluster and behind a mirror, and not asked for meanwhile', {
  skip,
}, async () => {
  await using etcd = await LocalEtcd.start('us', binary!);
  using root = await etcd.connect(adminUser('us'));
  await syncRemoteUsers(root, ['ap']);

  // Another cluster's etcd refuses a look at a mirror's report.
  using remote = await etcd.connect(remoteUser('ap'));
  const original = awaited(remote, 'us');
  assert.match(await original.missing(), /required but not found/);
  await put(root, clusterConfigKey('us'), 'of us');
  assert.equal((await original.entry).value, 'of us');

  using local = await etcd.connect(localUser('us'));
  const copy = awaited(local, 'eu');
  assert.match(await copy.missing(), /required but not found/);
  const report: Partial<MirrorReport> = {
    ...{ mirror: 'mirror-1', clusterId: 0, state: 'disconnected', status: 'no answer', answers: false },
  };
  await put(root, reportKey('eu'), JSON.stringify(report));
  assert.match(await copy.missing(), /its mirror mirror-1 has no copy of it yet: no answer/);
  await put(root, clusterConfigKey('eu'), 'of eu');
  assert.equal((await copy.entry).value, 'of eu');

  const ended = awaited(local, 'none');
  await ended.missing();
  ended.stop.abort();
  await assert.rejects(ended.entry, /required but not found/);
});
