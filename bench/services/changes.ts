import { setTimeout as pause } from 'node:timers/promises';
import { pathOf, resources } from '../../src/kube/resource.ts';
import { Arrivals } from '../arrivals.ts';
import { now } from '../control-plane/bed.ts';
import { watchServices } from '../control-plane/map-watch.ts';
import { type Result, spread } from '../control-plane/report.ts';
import { cpuOf } from '../lab-daemons.ts';
import { agentOf } from './agent.ts';
import type { Bed } from './bed.ts';
import { clusterIp, endpoint, serviceObject, sliceObject } from './crowd.ts';

/** Changes in a row for the agent's work: the kernel counts processor time in steps of 10 ms. */
const WORK = 500;
const backend = (n: number): string => `100.127.${n >> 8}.${n & 255}`;

/** Services whose first backends are followed in the node's map. */
export interface Followed extends Disposable {
  /** The time, in µs, at which the service (by its number) led to that backend. */
  arrival(service: number, address: string): Promise<number>;
}

export async function follow(bed: Bed, addresses: readonly string[]): Promise<Followed> {
  const seen = new Arrivals('map', 300);
  const watch = await watchServices(bed, bed.node, addresses, (service, address, stamp) =>
    seen.note(`${service} ${address}`, stamp),
  );
  return {
    arrival: (service, address) => seen.of(`${addresses[service]} ${address}`),
    [Symbol.dispose]: () => watch[Symbol.dispose](),
  };
}

const names = (prefix: string, count: number): string[] =>
  Array.from({ length: count }, (_, n) => `${prefix}-${n}`);

const createSlice = ({ client, namespace }: Bed, name: string, address: string): Promise<unknown> =>
  client.create(pathOf(resources.endpointSlices, { namespace }), sliceObject(name, [address]));

const createService = ({ client, namespace }: Bed, name: string, address: string): Promise<unknown> =>
  client.create(pathOf(resources.services, { namespace }), serviceObject(name, address));

async function moveTo({ client, namespace }: Bed, name: string, address: string): Promise<void> {
  await client.patch(pathOf(resources.endpointSlices, { namespace, name }), 'merge', {
    endpoints: [endpoint(address)],
  });
}

/**
 * New services one after the other, each from just before its POST until it leads to its endpoint, whose slice was
 * there before; then changes of endpoints likewise; then many of them, for the processor time that they take.
 */
export async function changes(bed: Bed, count: number, when: string, prefix: string): Promise<Result[]> {
  const range = bed.cluster.plan.serviceSubnet;
  const first = prefix === 'few' ? 1024 : 2048;
  const addresses = names(prefix, count).map((_, n) => clusterIp(range, first + n));
  const all = names(prefix, count);
  for (const [n, name] of all.entries()) await createSlice(bed, name, backend(n));
  using followed = await follow(bed, addresses);
  const times: Record<'new' | 'newApi' | 'changed' | 'changedApi', number[]> = {
    new: [],
    newApi: [],
    changed: [],
    changedApi: [],
  };
  for (const [n, name] of all.entries()) {
    const started = now();
    const answered = createService(bed, name, addresses[n]!).then(() => times.newApi.push(now() - started));
    times.new.push((await followed.arrival(n, backend(n))) - started);
    await answered;
    await pause(20 + Math.random() * 60);
  }
  for (const [n, name] of all.entries()) {
    const to = backend(1000 + n);
    const started = now();
    const answered = moveTo(bed, name, to).then(() => times.changedApi.push(now() - started));
    times.changed.push((await followed.arrival(n, to)) - started);
    await answered;
    await pause(20 + Math.random() * 60);
  }
  const agent = agentOf(bed.lab, bed.cluster);
  if (agent === undefined) throw new Error('no agent runs');
  const before = cpuOf(agent);
  for (let n = 0; n < WORK; n++) await moveTo(bed, all[0]!, backend(2000 + n));
  await followed.arrival(0, backend(2000 + WORK - 1));
  const work = (cpuOf(agent) - before) / WORK;
  const row = (what: string, list: readonly number[], goal = ''): Result => ({
    what: `${when}: ${what}, ms p50 / p90 / p99`,
    isthmus: spread(list),
    goal,
    cilium: '',
  });
  return [
    row('new service → API server has answered', times.newApi),
    row('new service → map', times.new, '< 30'),
    row('changed endpoint → API server has answered', times.changedApi),
    row('changed endpoint → map', times.changed, '< 30'),
    {
      what: `${when}: agent's processor time for a changed endpoint, ms`,
      isthmus: work.toFixed(2),
      goal: '< 5, the same',
      cilium: '',
    },
  ];
}

/** So many changes a second, whether earlier ones have arrived or not, spread over some services. */
export async function rate(bed: Bed, perSecond: number, seconds: number, when: string): Promise<Result[]> {
  const range = bed.cluster.plan.serviceSubnet;
  const all = names('rate', 50);
  const addresses = all.map((_, n) => clusterIp(range, 3072 + n));
  for (const [n, name] of all.entries()) {
    await createSlice(bed, name, backend(0));
    await createService(bed, name, addresses[n]!);
  }
  using followed = await follow(bed, addresses);
  await Promise.all(all.map((_, n) => followed.arrival(n, backend(0))));
  const api: number[] = [];
  const map: number[] = [];
  const underWay: Promise<void>[] = [];
  const began = now();
  for (let n = 0; n < perSecond * seconds; n++) {
    const due = began + (n * 1e6) / perSecond;
    if (due > now()) await pause((due - now()) / 1000);
    const to = backend(1 + n);
    const started = now();
    const service = n % all.length;
    const change = async (): Promise<void> => {
      await Promise.all([
        moveTo(bed, all[service]!, to).then(() => api.push(now() - started)),
        followed.arrival(service, to).then(stamp => map.push(stamp - started)),
      ]);
    };
    underWay.push(change());
  }
  await Promise.all(underWay);
  const what = `${when}: ${perSecond} changed endpoints a second for ${seconds} s`;
  return [
    {
      what: `${what} → API server has answered, ms p50 / p90 / p99`,
      isthmus: spread(api),
      goal: '',
      cilium: '',
    },
    { what: `${what} → map, ms p50 / p90 / p99`, isthmus: spread(map), goal: 'p99 < 50', cilium: '' },
    {
      what: `${what} → map after the API server's answer in order, ms p50 / p90 / p99`,
      isthmus: spread(map.map((each, n) => Math.max(0, each - api[n]!))),
      goal: '',
      cilium: '',
    },
  ];
}
