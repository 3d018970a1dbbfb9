import { setTimeout as pause } from 'node:timers/promises';
import { pathOf, resources } from '../../src/kube/resource.ts';
import type { EtcdRow } from '../../src/kvstore/target.ts';
import { now } from '../control-plane/bed.ts';
import { watchServices } from '../control-plane/map-watch.ts';
import { type Result, spread } from '../control-plane/report.ts';
import { cpuOf } from '../lab-daemons.ts';
import type { Bed } from '../services/bed.ts';
import { type Followed, follow } from '../services/changes.ts';
import { clusterIp, endpoint, serviceObject, sliceObject } from '../services/crowd.ts';
import { addressRow, globalService } from '../synthetic-rows.ts';
import { agentPid, type MeshBed } from './connect.ts';

const global = { 'service.cilium.io/global': 'true' };

export async function createGlobal(bed: Bed, name: string, address: string): Promise<void> {
  const service = serviceObject(name, address);
  await bed.client.create(pathOf(resources.services, { namespace: bed.namespace }), {
    ...service,
    metadata: { ...service.metadata, annotations: global },
  });
}

export const addressOf = (bed: Bed, n: number): string => clusterIp(bed.cluster.plan.serviceSubnet, n);

/** The local part of some of the clusters' global services: each has backends in all of them. */
export async function createShared(bed: MeshBed, count: number): Promise<void> {
  for (let n = 0; n < count; n++) await createGlobal(bed, `syn-${n}`, addressOf(bed, 1024 + n));
}

/**
 * So many changes of a remote cluster's endpoints a second, whether earlier ones have arrived or not: a pod of a
 * global service is replaced by one with another address, which is a changed services/v1 value, a new address and
 * an old one that goes.
 */
export async function remoteChanges(bed: MeshBed, perSecond: number, time: number): Promise<Result[]> {
  const { mesh } = bed;
  const cluster = mesh.clusters[0]!;
  const services = Array.from({ length: 50 }, (_, n) => ({
    name: `move-${n}`,
    address: addressOf(bed, 2048 + n),
  }));
  const pod = (n: number): string =>
    `10.${cluster.id}.${n % cluster.nodes}.${100 + (Math.floor(n / cluster.nodes) % 150)}`;
  for (const { name, address } of services) await createGlobal(bed, name, address);
  await mesh.put(services.map(({ name, address }) => globalService(cluster, name, address, [pod(0)])));
  const [answers, arrivals]: [number[], number[]] = [[], []];
  /** By service: changes that have not arrived. */
  const awaited = services.map((): { readonly to: string; readonly started: number }[] => []);
  const numbers = new Map(services.map(({ address }, n) => [address, n]));
  using _watch = await watchServices(
    bed,
    bed.node,
    services.map(each => each.address),
    (service, backend, stamp) => {
      const list = awaited[numbers.get(service)!]!;
      const at = list.findIndex(each => each.to === backend);
      // A change that was overtaken by the next one of its service has arrived with it.
      for (const { started } of list.splice(0, at + 1)) arrivals.push(stamp - started);
    },
  );
  const agent = agentPid(bed);
  const [agentCpu, etcdCpu] = [cpuOf(agent), cpuOf(mesh.etcd.pid)];
  process.kill(agent, 'SIGUSR2');
  const underWay: Promise<unknown>[] = [];
  const began = now();
  for (let n = 0; n < perSecond * time; n++) {
    const due = began + (n * 1e6) / perSecond;
    if (due > now()) await pause((due - now()) / 1000);
    const which = n % services.length;
    const { name, address } = services[which]!;
    const [to, from] = [pod(n + 1), n >= services.length ? [pod(n + 1 - services.length)] : []];
    const started = now();
    const rows = [
      globalService(cluster, name, address, [to]),
      addressRow(cluster, to, n % cluster.nodes, which),
    ];
    const gone = from.map(each => addressRow(cluster, each, 0, 0).key);
    awaited[which]!.push({ to, started });
    underWay.push(mesh.put(rows, gone).then(() => answers.push(now() - started)));
  }
  await Promise.all(underWay);
  for (const limit = now() + 60e6; awaited.some(list => list.length); await pause(50))
    if (now() > limit) throw new Error('some changes did not arrive within 60 s');
  const took = (now() - began) / 1000;
  const what = `${perSecond} remote endpoints changed a second, of ${mesh.clusters.length} clusters`;
  const share = (milliseconds: number): string => ((milliseconds / took) * 100).toFixed(1);
  const { longest, late, visits } = bed.loopReport();
  return [
    {
      what: `${what} → etcd has answered, ms p50 / p90 / p99`,
      isthmus: spread(answers),
      goal: '',
      cilium: '',
    },
    {
      what: `${what} → map, ms p50 / p90 / p99`,
      isthmus: spread(arrivals),
      goal: 'p50 < 8, p99 < 17',
      cilium: '10.1 / 13.0 / 20.2',
    },
    {
      what: `${what}: agent / etcd, % of a core`,
      isthmus: `${share(cpuOf(agent) - agentCpu)} / ${share(cpuOf(mesh.etcd.pid) - etcdCpu)}`,
      goal: '',
      cilium: '',
    },
    {
      what: `${what}: agent's longest task, ms (late of all)`,
      isthmus: `${longest} (${late} of ${visits})`,
      goal: '≤ 22',
      cilium: '',
    },
  ];
}

interface Work {
  /** Of the agent while the changes were made, in ms. */
  readonly cpu: number;
  /** What the agent does without any change, before and after: ms in each ms. */
  readonly idle: number;
  /** How long the changes took, in ms. */
  readonly took: number;
  /** Of each change to the map, in µs. */
  readonly times: readonly number[];
}

const workRows = (
  what: string,
  { cpu, idle, took, times }: Work,
  { goal, cilium }: Pick<Result, 'goal' | 'cilium'>,
): Result[] => [
  {
    what: `${what}: agent's processor time, ms`,
    isthmus: ((cpu - idle * took) / times.length).toFixed(2),
    goal,
    cilium,
  },
  {
    what: `${what}: … with what it does in that time without changes (% of a core), ms`,
    isthmus: `${(cpu / times.length).toFixed(2)} (${(idle * 100).toFixed(1)})`,
    goal: '',
    cilium: '',
  },
  { what: `${what}: → map, ms p50 / p90 / p99`, isthmus: spread(times), goal: '', cilium: '' },
];

/** Milliseconds for which the agent is looked at without changes. */
const IDLE = 10_000;

/** Processor time of a process that is left alone, of each millisecond. */
async function idleShare(pid: number): Promise<number> {
  // What the last change leaves to be done is over by then.
  await pause(2000);
  const [before, began] = [cpuOf(pid), performance.now()];
  await pause(IDLE);
  return (cpuOf(pid) - before) / (performance.now() - began);
}

/** Processor time of the agent for each of some changes, one after the other, with each one's time to the map. */
async function work(
  bed: MeshBed,
  changes: number,
  followed: Followed,
  change: (n: number) => Promise<string>,
): Promise<Work> {
  const agent = agentPid(bed);
  const earlier = await idleShare(agent);
  const [before, began] = [cpuOf(agent), performance.now()];
  const times: number[] = [];
  for (let n = 0; n < changes; n++) {
    const started = now();
    const address = await change(n);
    times.push((await followed.arrival(0, address)) - started);
  }
  const [cpu, took] = [cpuOf(agent) - before, performance.now() - began];
  return { cpu, idle: (earlier + (await idleShare(agent))) / 2, took, times };
}

/** Of RFC 2544: nobody's. */
const localBackend = (n: number): string => `198.18.${n >> 8}.${n & 255}`;
const replacement = (n: number): string => `198.19.${n >> 8}.${n & 255}`;
/** The order in which a service that comes with all its backends places them: the first is what is followed. */
const firstOf = (addresses: readonly string[]): number =>
  addresses.indexOf(addresses.toSorted((a, b) => (`${a}/8080` < `${b}/8080` ? -1 : 1))[0]!);

/** One endpoint is another in one of the EndpointSlices, of 100 endpoints each, of a service of the own cluster. */
export async function localSlice(bed: MeshBed, backends: number, changes: number): Promise<Result[]> {
  const { client, namespace } = bed;
  const name = 'big';
  const addresses = Array.from({ length: backends }, (_, n) => localBackend(n));
  const at = firstOf(addresses);
  const slice = (n: number): string => `${name}-${n}`;
  for (let n = 0; n < backends / 100; n++) {
    const object = sliceObject(name, addresses.slice(n * 100, n * 100 + 100));
    const metadata = { ...object.metadata, name: slice(n) };
    await client.create(pathOf(resources.endpointSlices, { namespace }), { ...object, metadata });
  }
  const address = addressOf(bed, 3000);
  using followed = await follow(bed, [address]);
  await createGlobal(bed, name, address);
  await followed.arrival(0, addresses[at]!);
  const its = Math.floor(at / 100);
  const members = addresses.slice(its * 100, its * 100 + 100);
  const found = await work(bed, changes, followed, async n => {
    members[at % 100] = replacement(n);
    await client.patch(pathOf(resources.endpointSlices, { namespace, name: slice(its) }), 'merge', {
      endpoints: members.map(endpoint),
    });
    return replacement(n);
  });
  const what = `one changed endpoint of an EndpointSlice of 100, of a service of ${backends}`;
  return workRows(what, found, { goal: '< 2', cilium: '78.8 (published)' });
}

/** One backend is another in the services/v1 value of a remote cluster. */
export async function remoteValue(bed: MeshBed, backends: number, changes: number): Promise<Result[]> {
  const { mesh } = bed;
  const cluster = mesh.clusters[0]!;
  const name = 'huge';
  const addresses = Array.from({ length: backends }, (_, n) => localBackend(20_000 + n));
  const at = firstOf(addresses);
  /** In order, as clusters write them. */
  const value = (): EtcdRow => globalService(cluster, name, address, addresses.toSorted());
  const address = addressOf(bed, 3001);
  using followed = await follow(bed, [address]);
  await mesh.put([value()]);
  await pause(500);
  await createGlobal(bed, name, address);
  await followed.arrival(0, addresses[at]!);
  const found = await work(bed, changes, followed, async n => {
    addresses[at] = replacement(20_000 + n);
    await mesh.put([value()]);
    return addresses[at]!;
  });
  const what = `one changed backend of a remote services/v1 value of ${backends}`;
  return workRows(what, found, { goal: '', cilium: '' });
}
