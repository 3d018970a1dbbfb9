/**
 * `npm run bench:datapath [-- --peer cilium]`: throughput, one-byte round trips and new connections through
 * Isthmus beside what the kernel does without any network plugin, and beside Cilium where asked. Everything is
 * measured in turn, round by round, in one lab on one router; values of the same round are compared, since absolute
 * times mean little on a machine that others use too.
 *
 * Both ends are pinned: `one` core puts client and server on CPU 0, `two` the server on CPU 1.
 * Options: --peer cilium, --rounds N, --seconds S of a measurement, --services N (0 leaves those rows out),
 * --path TEXT and --measure TEXT (only rows with that in their name), --name LAB (made, and removed afterwards,
 * unless it is up), --keep.
 */
import { execFileSync } from 'node:child_process';
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { cgroupLayout } from '../src/lab/cgroup.ts';
import { benchLab, pairOfClusters } from './bench-lab.ts';
import { deploy, type Network } from './datapath/clusters.ts';
import { type Floor, floor } from './datapath/floor.ts';
import { awaitServer, buildProbe, measures, type Place, startServers, throughput } from './datapath/load.ts';
import { type Column, Results, type Row } from './datapath/results.ts';

const { values } = parseArgs({
  options: {
    name: { type: 'string', default: 'bench' },
    peer: { type: 'string' },
    rounds: { type: 'string', default: '9' },
    seconds: { type: 'string', default: '1' },
    services: { type: 'string', default: '10000' },
    path: { type: 'string', default: '' },
    measure: { type: 'string', default: '' },
    keep: { type: 'boolean', default: false },
  },
});
if (values.peer !== undefined && values.peer !== 'cilium')
  throw new Error(`--peer: found "${values.peer}", expected "cilium"`);
const [rounds, seconds, services] = [values.rounds, values.seconds, values.services].map(Number) as [
  number,
  number,
  number,
];
const report = (line: string): void => console.error(line);

/** Where a client is, and the address at which it finds a server. */
interface Way {
  readonly client: Place;
  readonly to: string;
}

interface Path extends Row {
  readonly ways: ReadonlyMap<Column, Way>;
  /** Behind a ClusterIP only the echo ports are. */
  readonly service: boolean;
}

await using bench = await benchLab(values.name, pairOfClusters(values.peer !== undefined), values.keep);
const probe = buildProbe();
const ours = await deploy(bench.lab, 'us', 'eu', probe);
const peer = bench.cilium === undefined ? undefined : await deploy(bench.lab, 'cilium1', 'cilium2', probe);
using ground = floor();

/**
 * In a namespace of the floor, in the pod's groups of every cgroup v1 controller: it is scheduled like a pod, and
 * its sockets and threads are accounted like a pod's. Not in those of cgroup v2, which have the pod's socket hooks.
 */
function inFloor(namespace: string, uid: string): Place {
  const hierarchies = cgroupLayout().v1.map(({ directory }) => `/sys/fs/cgroup/${directory}`);
  const find = [...hierarchies, '-type', 'd', '-name', `pod${uid}`];
  const groups =
    hierarchies.length === 0 ? [] : execFileSync('find', find, { encoding: 'utf8' }).trim().split('\n');
  const enter = groups.map(group => `echo $$ > ${group}/cgroup.procs; `).join('');
  return {
    prefix: ['sh', '-c', `${enter}exec "$@"`, 'sh', 'ip', 'netns', 'exec', namespace],
    probe,
  };
}

await using stack = new AsyncDisposableStack();
const floorClient = inFloor(ground.client, ours.client.uid);
const networks: readonly (readonly [Column, Network])[] = [
  ['isthmus', ours],
  ...(peer === undefined ? [] : ([['peer', peer]] as const)),
];
for (const [, network] of networks)
  for (const pod of [network.near, network.far, network.away]) stack.use(startServers(pod.place));
for (const [server, pod] of [
  [ground.paths.sameNode.server, ours.near],
  [ground.paths.vxlan.server, ours.far],
  [ground.paths.vxlanRouted.server, ours.away],
] as const)
  stack.use(startServers(inFloor(server, pod.uid)));

function path(
  name: string,
  below: Partial<Record<'plain' | 'floor', keyof Floor['paths']>>,
  to: (network: Network) => string,
): Path {
  const ways = new Map<Column, Way>();
  for (const [column, key] of Object.entries(below) as ['plain' | 'floor', keyof Floor['paths']][])
    ways.set(column, { client: floorClient, to: ground.paths[key].address });
  for (const [column, network] of networks)
    ways.set(column, { client: network.client.place, to: to(network) });
  return { name, ways, service: false, goals: {} };
}

/** A pod on the other node by its service's address: beside the floor, and beside our own way to the pod's address. */
function throughService(count: number): Path[] {
  const name = `ClusterIP, ${count === 0 ? '1 service' : `${count.toLocaleString('en')} services`}`;
  const beside = new Map<Column, Way>([
    ['floor', { client: ours.client.place, to: ours.far.address }],
    ['isthmus', { client: ours.client.place, to: ours.service }],
  ]);
  return [
    { ...path(name, { floor: 'vxlan' }, network => network.service), service: true },
    {
      name: `${name}, beside its pod's address`,
      ways: beside,
      service: true,
      goals: { 'one-byte round trip p50': '≤ 1.05', 'new connections': '≥ 0.98' },
    },
  ];
}

const results = new Results(measures);

async function measureAll(all: readonly Path[]): Promise<void> {
  const paths = all.filter(each => each.name.includes(values.path));
  for (const each of paths) for (const way of each.ways.values()) await awaitServer(way.client, way.to);
  for (let round = 0; round < rounds; round++)
    for (const each of paths) {
      report(`${each.name}: round ${round + 1} of ${rounds}, load ${loadavg()[0]!.toFixed(1)}`);
      for (const measure of measures) {
        if (each.service && measure === throughput) continue;
        if (!measure.name.includes(values.measure)) continue;
        // Whoever comes first in a round comes last in the next.
        const ways = round % 2 === 0 ? [...each.ways] : [...each.ways].reverse();
        for (const [column, way] of ways)
          results.note(each, measure, column, await measure.measure(way.client, way.to, seconds));
      }
    }
}

const before = loadavg()[0]!;
await measureAll([
  path('same node', { floor: 'sameNode' }, network => network.near.address),
  path('between nodes', { plain: 'plain', floor: 'vxlan' }, network => network.far.address),
  path('between clusters', { plain: 'plainRouted', floor: 'vxlanRouted' }, network => network.away.address),
  ...throughService(0),
]);
const peerName = bench.cilium === undefined ? undefined : `Cilium ${bench.cilium}`;
if (services > 0) {
  report(results.markdown(peerName));
  const started = performance.now();
  await Promise.all(networks.map(([, network]) => network.addServices(services)));
  report(`${services} services everywhere after ${((performance.now() - started) / 1000).toFixed(0)} s`);
  await measureAll(throughService(services));
}
console.log(results.markdown(peerName));
console.log(
  `\nMedian (lowest to highest) of ${rounds} rounds of ${seconds} s, load ${before.toFixed(1)} at the start and ${loadavg()[0]!.toFixed(1)} at the end`,
);
