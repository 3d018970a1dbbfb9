/**
 * Fills a lab's cluster with services in seconds. Through its API 10,000 services take minutes, nearly all of it the
 * API server's work of allocating; so their objects are put into its etcd, from where it serves and announces them
 * as any other.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Failure } from '../../src/failure.ts';
import { initProcess } from '../../src/lab/node.ts';
import type { Lab, LabCluster } from '../../src/lab/open-lab.ts';
import { type Crowd, type StoredObject, storedObjects } from './crowd.ts';

export const fill = (lab: Lab, cluster: LabCluster, crowd: Crowd): Promise<void> =>
  write(lab, cluster, storedObjects(cluster.plan.serviceSubnet, crowd));

export const empty = (lab: Lab, cluster: LabCluster, crowd: Crowd): Promise<void> =>
  write(lab, cluster, keysOnly(storedObjects(cluster.plan.serviceSubnet, { ...crowd, endpoints: 0 })));

function* keysOnly(rows: Iterable<readonly StoredObject[]>): Generator<{ readonly key: string }[]> {
  for (const each of rows) yield each.map(({ key }) => ({ key }));
}

async function write(
  lab: Lab,
  cluster: LabCluster,
  rows: Iterable<readonly { readonly key: string; readonly value?: object }[]>,
): Promise<void> {
  const node = cluster.plan.nodes[0]!;
  const pid = initProcess(lab.layout, node);
  if (pid === undefined) throw new Failure(`node ${node.name} is down`);
  const writer = [
    process.execPath,
    join(import.meta.dirname, 'etcd-writer.ts'),
    `/proc/${pid}/root/etc/kubernetes/pki`,
  ];
  const child = spawn('nsenter', [`--net=/proc/${pid}/ns/net`, ...writer], {
    stdio: ['pipe', 'ignore', 'inherit'],
  });
  const ended = once(child, 'exit');
  await pipeline(Readable.from(lines(rows)), child.stdin);
  const [code] = await ended;
  if (code !== 0) throw new Error(`the writer to etcd ended with code ${code}`);
}

/** JSON lines, some at a time: a write of each alone would cost more than the etcd. */
function* lines(rows: Iterable<readonly object[]>): Generator<string> {
  let part = '';
  for (const row of rows) {
    part += `${JSON.stringify(row)}\n`;
    if (part.length < 65_536) continue;
    yield part;
    part = '';
  }
  if (part) yield part;
}
