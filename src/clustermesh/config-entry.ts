import { Code, ConnectError } from '@connectrpc/connect';
import type { EtcdConnection } from '../kvstore/connection.ts';
import { EtcdFailure } from '../kvstore/failure.ts';
import { type Entry, getKey } from '../kvstore/range.ts';
import { clusterConfigKey, reportKey } from './layout.ts';
import { parseReport } from './mirror-report.ts';

/** The configuration of a cluster as its etcd, or the copy of a mirror, has it. @throws EtcdFailure saying why it has none */
export async function readConfigEntry(connection: EtcdConnection, cluster: string): Promise<Entry> {
  const key = clusterConfigKey(cluster);
  let entry: Entry | undefined;
  try {
    entry = await getKey(connection, key);
  } catch (error) {
    if (!(error instanceof ConnectError) || error.code !== Code.PermissionDenied) throw error;
    throw new EtcdFailure(
      'authentication',
      `${key} may not be read: this cluster is not among the users of that etcd, or it belongs to a cluster of another name`,
      { cause: error },
    );
  }
  if (!entry) throw await whyNone(connection, cluster);
  return entry;
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
