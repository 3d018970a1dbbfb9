import { Code, ConnectError } from '@connectrpc/connect';
import type { EtcdConnection } from './connection.ts';
import { AlarmRequest_AlarmAction, AlarmType } from './gen/etcd/api/etcdserverpb/rpc_pb.js';

/** True for the error of an etcd whose database has reached its quota: it raises an alarm and takes no more writes. */
export function isOutOfSpace(error: unknown): boolean {
  return (
    error instanceof ConnectError && error.code === Code.ResourceExhausted && /space/.test(error.message)
  );
}

/**
 * What etcd's maintenance guide has an administrator do: forget the past (compaction), give its space back
 * (defragmentation), and end the alarm, which etcd never does by itself. Needs the root role. Readers that are behind
 * list again. The alarm comes back with the next write if what is kept now is too much.
 */
export async function freeSpace(connection: EtcdConnection): Promise<void> {
  const { header } = await connection.maintenance.status({});
  try {
    await connection.kv.compact({ revision: header?.revision ?? 0n, physical: true });
  } catch (error) {
    // Compacted up to there already.
    if (!(error instanceof ConnectError) || error.code !== Code.OutOfRange) throw error;
  }
  await connection.maintenance.defragment({});
  // An alarm is one member's.
  const { alarms } = await connection.maintenance.alarm({ action: AlarmRequest_AlarmAction.GET });
  for (const { memberID, alarm } of alarms)
    if (alarm === AlarmType.NOSPACE)
      await connection.maintenance.alarm({ action: AlarmRequest_AlarmAction.DEACTIVATE, memberID, alarm });
}
