import { Code, ConnectError } from '@connectrpc/connect';
import type { EtcdConnection } from '../kvstore/connection.ts';
import { EtcdFailure } from '../kvstore/failure.ts';
import { type Entry, encodeKey, entryOf, getKey, type KeyRange } from '../kvstore/range.ts';
import { clusterConfigKey, reportKey } from './layout.ts';
import { parseReport } from './mirror-report.ts';

/** Milliseconds that a configuration is waited for at one endpoint: another one may have it. */
const WITHIN = 20_000;

/**
 * The configuration of a cluster as its etcd, or the copy of a mirror, has it: as soon as it has. Meanwhile `onMissing` is
 * told why not, and again when a mirror says something else. @throws EtcdFailure saying why it has none
 */
export async function readConfigEntry(
  connection: EtcdConnection,
  cluster: string,
  onMissing: (failure: EtcdFailure) => void,
  signal: AbortSignal,
): Promise<Entry> {
  const key = encodeKey(clusterConfigKey(cluster));
  const over = AbortSignal.any([signal, AbortSignal.timeout(WITHIN)]);
  for (;;) {
    const { kvs, header } = await connection.kv.range({ key }).catch(error => {
      throw refusedOr(error, cluster);
    });
    if (kvs[0]) return entryOf(kvs[0]);
    const failure = await whyNone(connection, cluster);
    if (over.aborted || !header) throw failure;
    onMissing(failure);
    await changed(connection, [key, encodeKey(reportKey(cluster))], header.revision, over);
  }
}

/** Resolves when one of these keys has changed since a revision, or `signal` aborts. */
async function changed(
  connection: EtcdConnection,
  keys: readonly KeyRange['key'][],
  revision: bigint,
  signal: AbortSignal,
): Promise<void> {
  const watches = keys.map(key => connection.watch({ key }, revision + 1n));
  const close = (): void => {
    for (const watch of watches) watch[Symbol.dispose]();
  };
  signal.addEventListener('abort', close, { once: true });
  try {
    // Another cluster's etcd refuses the key of a report.
    await Promise.any(watches.map(watch => watch.next()));
  } catch (error) {
    throw error instanceof AggregateError ? error.errors[0] : error;
  } finally {
    signal.removeEventListener('abort', close);
    close();
  }
}

function refusedOr(error: unknown, cluster: string): unknown {
  if (!(error instanceof ConnectError) || error.code !== Code.PermissionDenied) return error;
  return new EtcdFailure(
    'authentication',
    `${clusterConfigKey(cluster)} may not be read: this cluster is not among the users of that etcd, or it belongs to a cluster of another name`,
    { cause: error },
  );
}

/** A mirror that cannot copy a cluster says why. */
async function whyNone(connection: EtcdConnection, cluster: string): Promise<EtcdFailure> {
  try {
    const report = await getKey(connection, reportKey(cluster));
    if (report) {
      const { mirror, status } = parseReport(cluster, report.value);
      return new EtcdFailure('etcd', `its mirror ${mirror} has no copy of it yet: ${status}`);
    }
  } catch {
    // Another cluster's etcd does not let us look there.
  }
  return new EtcdFailure(
    'etcd',
    `remote cluster configuration required but not found (${clusterConfigKey(cluster)}): its clustermesh-apiserver, or our mirror of it, has not written it yet, or the cluster has another name`,
  );
}
