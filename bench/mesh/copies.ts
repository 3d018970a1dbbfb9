/**
 * One remote cluster of 10,000 endpoints behind a link, read by an agent: through our mirror, with Cilium's kvstoremesh
 * beside it on the same changes, and directly. The etcd is in the network of another cluster's node, mirrors and agent
 * are on the node of the reading one, so that all they exchange with it passes the link; who changes things does not.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { refreshMeshVolumes } from '../../src/cli/refresh-volumes.ts';
import { localUser, remoteUser, syncRemoteUsers } from '../../src/clustermesh/access.ts';
import { objectPrefix } from '../../src/clustermesh/layout.ts';
import { pathOf, resources, typeOf } from '../../src/kube/resource.ts';
import { encodeKey, prefixEnd } from '../../src/kvstore/range.ts';
import { fault } from '../../src/lab/fault.ts';
import { initProcess } from '../../src/lab/node.ts';
import type { Lab } from '../../src/lab/open-lab.ts';
import type { NodePlan } from '../../src/lab/plan.ts';
import { etcdConfiguration } from '../../test/interop/kvstoremesh.ts';
import { Arrivals } from '../arrivals.ts';
import { now } from '../control-plane/bed.ts';
import { timeEndpoints, watchServices } from '../control-plane/map-watch.ts';
import { quantile, type Result, seconds, spread } from '../control-plane/report.ts';
import { askedAgent, samplesOf } from '../services/agent.ts';
import type { Bed } from '../services/bed.ts';
import { SyntheticEtcd } from '../synthetic-etcd.ts';
import { addressRow, globalService } from '../synthetic-rows.ts';
import { addressOf, createGlobal } from './changes.ts';
import { agentPid } from './connect.ts';
import { type MirrorKind, RunningMirror } from './mirrors.ts';
import { SyntheticMesh } from './synthetic-mesh.ts';

/** How the link behaves. */
export interface Way {
  /** Milliseconds each way. */
  readonly delay: number;
  /** Percent, each way. */
  readonly loss: number;
}

/** `40ms`, `1%`, or `40ms,1%`. @throws Error when it has another form */
export function parseWay(text: string): Way {
  const found = /^(?:([0-9.]+)ms)?(?:,?([0-9.]+)%)?$/.exec(text);
  if (!found || text === '')
    throw new Error(`--link: found "${text}", expected one like 40ms, 1% or 40ms,1%`);
  return { delay: Number(found[1] ?? 0), loss: Number(found[2] ?? 0) };
}

export interface CopiesOptions {
  /** Kvstoremesh runs beside our mirror. */
  readonly peer: boolean;
  /** Changes one after the other. */
  readonly changes: number;
  /** Changes at once. */
  readonly burst: number;
}

/** Names of the two clusters of the lab: who reads, and in whose network the etcd is. */
export const [NEAR, FAR] = ['hub', 'far'] as const;

/** Ports of this machine's and the far node's addresses that are free on any that runs a lab. */
const ports = { isthmus: 32_394, kvstoremesh: 32_395, far: 32_396 } as const;
const PER_NODE = 100;

/** The bed with the far cluster, and services of the reading one that have their endpoints there. */
export interface FarBed extends Bed {
  readonly far: SyntheticMesh;
  /** By their number; the first is for changes one after the other. */
  readonly services: readonly { readonly name: string; readonly address: string }[];
  /** An address that no endpoint had yet. */
  nextAddress(): { readonly address: string; readonly node: number };
}

/** Words that run a command in a node's network. */
function inNetwork(lab: Lab, node: NodePlan): string[] {
  const pid = initProcess(lab.layout, node);
  if (pid === undefined) throw new Error(`node ${node.name} is down`);
  return ['nsenter', `--net=/proc/${pid}/ns/net`];
}

export async function openFar(bed: Bed, endpoints: number, burst: number): Promise<FarBed> {
  const node = bed.lab.cluster(FAR).plan.nodes[0]!;
  const etcd = await SyntheticEtcd.start('syn1', node.address, ports.far, inNetwork(bed.lab, node));
  const far = await SyntheticMesh.fill(etcd, {
    clusters: 1,
    nodes: endpoints / PER_NODE,
    endpoints,
    services: endpoints / 10,
    namespace: bed.namespace,
    cached: false,
  });
  await syncRemoteUsers(far.connection, [NEAR]);
  const [cluster] = far.clusters;
  const services = Array.from({ length: burst + 1 }, (_, n) => ({
    name: `far-${n}`,
    address: addressOf(bed, 4096 + n),
  }));
  for (const { name, address } of services) await createGlobal(bed, name, address);
  let given = 0;
  return {
    ...bed,
    far,
    services,
    nextAddress() {
      const n = given++;
      const node = n % cluster!.nodes;
      return { node, address: `10.${cluster!.id}.${node}.${101 + (Math.floor(n / cluster!.nodes) % 150)}` };
    },
  };
}

/** All of it over a link of this kind. */
export async function copies(bed: FarBed, way: Way, options: CopiesOptions): Promise<Result[]> {
  const link = `${NEAR}-${FAR}`;
  const lab = bed.lab.plan.name;
  if (way.delay) await fault(lab, { kind: 'slow', link, milliseconds: way.delay });
  if (way.loss) await fault(lab, { kind: 'lose', link, percent: way.loss });
  try {
    const mirrored = await throughMirrors(bed, options);
    const direct = await directly(bed, options);
    return resultsOf(wordsOf(way), bed, options, mirrored, direct);
  } finally {
    if (way.delay || way.loss) await fault(lab, { kind: 'heal', target: link });
  }
}

const wordsOf = ({ delay, loss }: Way): string =>
  [...(delay ? [`${delay} ms each way`] : []), ...(loss ? [`${loss} % lost`] : [])].join(', ');

/** Where a change is looked for. */
type Place = MirrorKind | 'map';

/** Times in µs. */
interface Times {
  readonly connect: ReadonlyMap<Place, number>;
  readonly changes: ReadonlyMap<Place | 'etcd', readonly number[]>;
  readonly burst: ReadonlyMap<Place | 'etcd', number>;
}

async function throughMirrors(bed: FarBed, options: CopiesOptions): Promise<Times> {
  const { far } = bed;
  const { name } = far.clusters[0]!;
  const connect = new Map<Place, number>();
  const configuration = etcdConfiguration(far.etcd, await far.etcd.certificate(remoteUser(NEAR)));
  const start = (kind: MirrorKind): Promise<RunningMirror> => {
    const within = inNetwork(bed.lab, bed.node);
    return RunningMirror.start({
      ...{ kind, cluster: NEAR, within },
      ...{ host: bed.lab.plan.router.hostAddress, port: ports[kind] },
    });
  };
  await using ours = await start('isthmus');
  await using theirs = options.peer ? await start('kvstoremesh') : undefined;
  const count = await endpointsOf(far);
  // One after the other: both want all of the machine.
  await using _declared = await connected(bed, ours.fileOf(name), connect, async () => {
    ours.copy(name, configuration);
    await declare(bed, await ours.home.remoteEntries(localUser(NEAR), [name]));
    const started = now();
    connect.set('isthmus', (await ours.whole(name, count)) - started);
  });
  if (theirs) {
    const started = now();
    theirs.copy(name, configuration);
    connect.set('kvstoremesh', (await theirs.whole(name, count)) - started);
  }
  const mirrors = theirs ? [ours, theirs] : [ours];
  return { connect, ...(await changed(bed, mirrors, options)) };
}

async function directly(bed: FarBed, options: CopiesOptions): Promise<Times> {
  const { far } = bed;
  const { name } = far.clusters[0]!;
  const connect = new Map<Place, number>();
  const file = `/proc/${agentPid(bed)}/root/var/lib/cilium/clustermesh/${name}`;
  await using _declared = await connected(bed, file, connect, async () =>
    declare(bed, await far.etcd.remoteEntries(remoteUser(NEAR), [name])),
  );
  return { connect, ...(await changed(bed, [], options)) };
}

/** Notes the time from `file` until the agent's map has all; disposing has the agent forget the cluster. */
async function connected(
  bed: FarBed,
  file: string,
  connect: Map<Place, number>,
  work: () => Promise<void>,
): Promise<AsyncDisposable> {
  const clusterId = bed.far.clusters[0]!.id;
  const { done } = await timeEndpoints(bed.lab, bed.node, {
    ...{ addresses: bed.far.addresses(1), clusterId, file },
  });
  await work();
  const { file: seen, all } = await done;
  connect.set('map', all - seen);
  return {
    async [Symbol.asyncDispose]() {
      await declare(bed, {});
      const agent = agentPid(bed);
      for (const limit = now() + 60e6; ; await pause(100)) {
        const metrics = await askedAgent(agent, '/v1/metrics');
        const sum = (metric: string): number =>
          [...samplesOf(metrics, metric).values()].reduce((total, each) => total + each, 0);
        const left = samplesOf(metrics, 'isthmus_clustermesh_remote_cluster_readiness_status').size;
        if (metrics && left === 0 && sum('isthmus_reconciler_pending') === 0) return;
        if (now() > limit) throw new Error('the agent still knows the cluster 60 s after it was taken off');
      }
    },
  };
}

/** Makes these the entries of the reading cluster's Secret, and has the agent see them. */
async function declare(bed: Bed, entries: Readonly<Record<string, string>>): Promise<void> {
  const encoded = Object.entries(entries).map(([name, text]) => [name, Buffer.from(text).toString('base64')]);
  await bed.client.apply(
    pathOf(resources.secrets, { namespace: 'kube-system', name: 'cilium-clustermesh' }),
    {
      ...typeOf(resources.secrets),
      metadata: { name: 'cilium-clustermesh', namespace: 'kube-system' },
      data: Object.fromEntries(encoded),
    },
  );
  await refreshMeshVolumes(bed.client, 'kube-system');
}

async function endpointsOf({ connection, clusters }: SyntheticMesh): Promise<number> {
  const prefix = objectPrefix('ip', clusters[0]!.name);
  const asked = { key: encodeKey(prefix), rangeEnd: prefixEnd(prefix), countOnly: true };
  return Number((await connection.kv.range(asked)).count);
}

/** A pod of each of these services is replaced by another, one after the other and then all at once. */
async function changed(
  bed: FarBed,
  mirrors: readonly RunningMirror[],
  options: CopiesOptions,
): Promise<Omit<Times, 'connect'>> {
  const [first, ...rest] = bed.services;
  const changes = new Map<Place | 'etcd', number[]>();
  const burst = new Map<Place | 'etcd', number>();
  const add = (place: Place | 'etcd', time: number): void => {
    changes.set(place, [...(changes.get(place) ?? []), time]);
  };
  {
    using watched = await watchAll(bed, mirrors, [first!]);
    await watched.arrivals(first!, await replace(bed, first!));
    for (let n = 0; n < options.changes; n++) {
      // Not in step with anything that happens regularly.
      await pause(50 + Math.random() * 100);
      const started = now();
      const put = replace(bed, first!, () => add('etcd', now() - started));
      for (const [place, stamp] of await watched.arrivals(first!, await put)) add(place, stamp - started);
    }
  }
  using watched = await watchAll(bed, mirrors, rest);
  const all = async (begin: () => void = () => undefined) => {
    const last = new Map<Place, number>();
    begin();
    const puts = rest.map(async service => {
      const to = await replace(bed, service, () => burst.set('etcd', now()));
      for (const [place, stamp] of await watched.arrivals(service, to))
        last.set(place, Math.max(stamp, last.get(place) ?? 0));
    });
    await Promise.all(puts);
    return last;
  };
  await all();
  let started = 0;
  const last = await all(() => {
    started = now();
  });
  for (const [place, stamp] of [...last, ['etcd', burst.get('etcd')!] as const])
    burst.set(place, stamp - started);
  return { changes, burst };
}

/** The endpoint of each service, by its name. */
const current = new Map<string, string>();

/** Writes it; resolves to the new endpoint when etcd has answered, which `answered` is told at once. */
async function replace(
  { far, nextAddress }: FarBed,
  { name, address }: FarBed['services'][number],
  answered: () => void = () => undefined,
): Promise<string> {
  const cluster = far.clusters[0]!;
  const to = nextAddress();
  const before = current.get(name);
  current.set(name, to.address);
  await far.put(
    [globalService(cluster, name, address, [to.address]), addressRow(cluster, to.address, to.node, 0)],
    before === undefined ? [] : [addressRow(cluster, before, 0, 0).key],
  );
  answered();
  return to.address;
}

interface Watched extends Disposable {
  /** When a service led to an endpoint, everywhere. */
  arrivals(service: FarBed['services'][number], to: string): Promise<ReadonlyMap<Place, number>>;
}

async function watchAll(
  bed: FarBed,
  mirrors: readonly RunningMirror[],
  services: FarBed['services'],
): Promise<Watched> {
  using stack = new DisposableStack();
  const cluster = bed.far.clusters[0]!.name;
  const places = new Map<Place, Arrivals>();
  for (const mirror of mirrors) {
    const arrivals = new Arrivals(mirror.kind, 300);
    places.set(mirror.kind, arrivals);
    stack.use(mirror.watch(cluster, bed.namespace, arrivals));
  }
  const map = new Arrivals('map', 300);
  places.set('map', map);
  const names = new Map(services.map(({ name, address }) => [address, name]));
  stack.use(
    await watchServices(bed, bed.node, [...names.keys()], (service, backend, stamp) =>
      map.note(`${names.get(service)} ${backend}`, stamp),
    ),
  );
  const watching = stack.move();
  return {
    async arrivals({ name }, to) {
      const stamps = [...places].map(
        async ([place, arrivals]) => [place, await arrivals.of(`${name} ${to}`)] as const,
      );
      return new Map(await Promise.all(stamps));
    },
    [Symbol.dispose]: () => watching[Symbol.dispose](),
  };
}

function resultsOf(
  way: string,
  { far }: FarBed,
  { burst, peer }: CopiesOptions,
  mirrored: Times,
  direct: Times,
): Result[] {
  const row = (what: string, isthmus: string, theirs = '', goal = ''): Result => ({
    what: way ? `${way}: ${what}` : what,
    ...{ isthmus, goal, peer: theirs, cilium: '' },
  });
  const { endpoints } = far.clusters[0]!;
  const change = 'endpoint change';
  const at = (times: Times['burst'], place: Place | 'etcd'): string => {
    const time = times.get(place);
    return time === undefined ? '' : seconds(time);
  };
  const list = (times: Times['changes'], place: Place | 'etcd'): string => {
    const found = times.get(place);
    return found === undefined ? '' : spread(found);
  };
  const goal = way ? '' : 'p50 < 8, p99 < 17';
  const rows = [
    row(
      `${endpoints} endpoints of a newly connected cluster → its copy`,
      at(mirrored.connect, 'isthmus'),
      at(mirrored.connect, 'kvstoremesh'),
      way ? '' : '< 3 s',
    ),
    row('… → map, through our mirror', at(mirrored.connect, 'map'), '', way ? '' : '< 3 s'),
    row('… → map, read directly', at(direct.connect, 'map'), '', way ? '' : '< 3 s'),
    row(`${change} → etcd has answered, ms p50 / p90 / p99`, list(mirrored.changes, 'etcd')),
    row('… → its copy', list(mirrored.changes, 'isthmus'), list(mirrored.changes, 'kvstoremesh')),
    row('… → map, through our mirror', list(mirrored.changes, 'map'), '', goal),
    row('… → map, read directly', list(direct.changes, 'map'), '', goal),
    row(`${burst} endpoint changes at once → etcd has answered all`, at(mirrored.burst, 'etcd')),
    row(
      '… → all in the copy',
      at(mirrored.burst, 'isthmus'),
      at(mirrored.burst, 'kvstoremesh'),
      way ? '' : '< 1 s',
    ),
    row('… → all in the map, through our mirror', at(mirrored.burst, 'map'), '', way ? '' : '< 1 s'),
    row('… → all in the map, read directly', at(direct.burst, 'map'), '', way ? '' : '< 1 s'),
  ];
  if (!peer) return rows;
  const ratio = (own: number | undefined, other: number | undefined): string => (own! / other!).toFixed(2);
  const both = (share: number): string => {
    const of = (kind: MirrorKind): number => quantile(mirrored.changes.get(kind)!, share);
    return ratio(of('isthmus'), of('kvstoremesh'));
  };
  const pairs = [mirrored.connect, mirrored.burst].map(times =>
    ratio(times.get('isthmus'), times.get('kvstoremesh')),
  );
  const ratios = [both(0.5), both(0.99), pairs[1], pairs[0]].map(each => `**${each}**`).join(' / ');
  return [
    ...rows,
    row(
      `our copy's time to kvstoremesh's: change p50 / p99 / ${burst} changes / ${endpoints} endpoints`,
      ratios,
      '1',
      '< 1',
    ),
  ];
}
