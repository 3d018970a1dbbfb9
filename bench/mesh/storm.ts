import { setTimeout as pause } from 'node:timers/promises';
import { localUser } from '../../src/clustermesh/access.ts';
import { datapathKinds } from '../../src/clustermesh/layout.ts';
import { RemoteCluster } from '../../src/clustermesh/remote-cluster.ts';
import { rowConsumer } from '../../src/clustermesh/row-writers.ts';
import { remoteTables } from '../../src/clustermesh/rows.ts';
import { type Result, seconds } from '../control-plane/report.ts';
import { cpuOf, memoryOf } from '../lab-daemons.ts';
import { SyntheticMesh } from './synthetic-mesh.ts';

const shape = { clusters: 1, nodes: 100, endpoints: 1000, services: 100, namespace: 'bench' };

/**
 * So many readers of one cluster lose their etcd in one moment, because its process ends, and another starts on its
 * data: until each has read everything again. They share this process, so that most of the work beside etcd's is theirs.
 */
export async function storms(readers: number): Promise<Result[]> {
  await using mesh = await SyntheticMesh.start('127.0.0.1', 32_392, 'hub', shape);
  const { etcd, clusters } = mesh;
  const [cluster] = clusters;
  const tls = await etcd.certificate(localUser('hub'));
  const endpoint = { host: etcd.host, port: etcd.port, serverName: `${cluster!.name}.mesh.cilium.io` };
  const failures: number[] = [];
  const all = Array.from(
    { length: readers },
    () =>
      new RemoteCluster(
        { cluster: cluster!.name, endpoints: [endpoint], tls },
        {
          cluster: cluster!.name,
          reader: 'hub',
          maxClusters: 255,
          consumer: rowConsumer(datapathKinds, remoteTables()),
          reserve: () => undefined,
          release: () => undefined,
          onSynced: () => undefined,
          onFailure: () => failures.push(performance.now()),
        },
      ),
  );
  const ready = async (): Promise<void> => {
    while (all.some(each => each.status.state !== 'ready')) await pause(50);
  };
  await ready();
  const before = memoryOf(etcd.pid);
  failures.length = 0;
  await etcd.crash();
  const started = performance.now();
  const cpu = cpuOf(etcd.pid);
  let peak = 0;
  const watching = setInterval(() => {
    peak = Math.max(peak, memoryOf(etcd.pid));
  }, 50);
  // None of them has noticed yet.
  while (failures.length < readers) await pause(5);
  await ready();
  const took = performance.now() - started;
  clearInterval(watching);
  const etcdCpu = cpuOf(etcd.pid) - cpu;
  for (const each of all) each.stop();
  await Promise.all(all.map(each => each.done));
  const what = `${readers} readers lose their etcd (1,000 endpoints) at once`;
  return [
    { what: `${what}: until all are ready again`, isthmus: seconds(took * 1000), goal: '', cilium: '' },
    {
      what: `${what}: attempts that failed, of all readers`,
      isthmus: String(failures.length),
      goal: '',
      cilium: '',
    },
    { what: `${what}: etcd, processor time`, isthmus: seconds(etcdCpu * 1000), goal: '', cilium: '' },
    {
      what: `${what}: etcd, resident memory before / at most, MiB`,
      isthmus: `${before.toFixed(0)} / ${peak.toFixed(0)}`,
      goal: '',
      cilium: '',
    },
  ];
}
