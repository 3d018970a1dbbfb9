import assert from 'node:assert/strict';
import { test } from 'node:test';
import { remoteTables } from '../clustermesh/rows.ts';
import { settled } from '../table/settled.fixture.ts';
import { tellDeadClusters } from './dead-clusters.ts';

test('the death of a cluster, and its return, are events; that it was taken off is none', async () => {
  const { clusters } = remoteTables();
  const told: string[] = [];
  const record = (
    subject: { kind: string; namespace?: string | undefined },
    reason: string,
    message: string,
  ) => told.push(`${subject.namespace}/${subject.kind} ${reason}: ${message}`);
  tellDeadClusters(clusters, { say: record, warn: record }, 'kube-system');
  const eu = async (dead: boolean, silent = dead): Promise<void> => {
    clusters.upsert({ cluster: 'eu', dead, silent, controlPlaneNode: '', via: '' });
    await settled();
  };
  await eu(false);
  await eu(false, true);
  assert.deepEqual(told, [], 'silence alone is none');
  await eu(true);
  await eu(false);
  await eu(true);
  clusters.delete('eu');
  await settled();
  const dead =
    'kube-system/DaemonSet RemoteClusterDead: cluster eu: neither its nodes nor its control plane answer: no new connections are sent to it';
  assert.deepEqual(told, [
    dead,
    'kube-system/DaemonSet RemoteClusterUsed: cluster eu answers again: it is used again',
    dead,
  ]);
});
