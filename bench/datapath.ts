/**
 * `npm run bench:datapath [-- --peer cilium]`: throughput, one-byte round trips and new connections through
 * Isthmus beside what the kernel does without any network plugin, and beside Cilium where asked. Everything is
 * measured in turn, round by round, in one lab on one router; values of the same round are compared, since absolute
 * times mean little on a machine that others use too.
 *
 * Both ends are pinned: `one` core puts client and server on CPU 0, `two` the server on CPU 1.
 * With `--routing native` only the way between nodes is measured, beside plain routing.
 *
 * Options: --peer cilium, --rounds N, --seconds S of a measurement, --services N (0 leaves those rows out),
 * --path TEXT and --measure TEXT (only rows with that in their name), --name LAB (made, and removed afterwards,
 * unless it is up), --keep.
 */
import { parseArgs } from 'node:util';
import { benchLab, pairOfClusters } from './bench-lab.ts';
import { deploy, type Network } from './datapath/clusters.ts';
import { type Floor, floor } from './datapath/floor.ts';
import { inNamespace } from './datapath/hosts.ts';
import { buildProbe, measures, ports, startServers, throughput } from './datapath/load.ts';
import { type Column, Results } from './datapath/results.ts';
import { Measurement, type Path, type Way } from './datapath/rounds.ts';
import { setRoutingMode } from './routing-mode.ts';

const { values } = parseArgs({
  options: {
    name: { type: 'string', default: 'bench' },
    peer: { type: 'string' },
    rounds: { type: 'string', default: '9' },
    seconds: { type: 'string', default: '1' },
    services: { type: 'string', default: '10000' },
    routing: { type: 'string', default: 'tunnel' },
    path: { type: 'string', default: '' },
    measure: { type: 'string', default: '' },
    keep: { type: 'boolean', default: false },
  },
});
if (values.peer !== undefined && values.peer !== 'cilium')
  throw new Error(`--peer: found "${values.peer}", expected "cilium"`);
if (values.routing !== 'tunnel' && values.routing !== 'native')
  throw new Error(`--routing: found "${values.routing}", expected "tunnel" or "native"`);
const native = values.routing === 'native';
if (native && values.peer !== undefined)
  throw new Error('--routing native: found --peer, which has tunnels only');
const [rounds, seconds, services] = [values.rounds, values.seconds, values.services].map(Number) as [
  number,
  number,
  number,
];
const report = (line: string): void => console.error(line);

await using bench = await benchLab(values.name, pairOfClusters(values.peer !== undefined), values.keep);
if (native) for (const name of ['us', 'eu']) await setRoutingMode(bench.lab.cluster(name), 'native', report);
const probe = buildProbe();
const ours = await deploy(bench.lab, 'us', 'eu', probe);
const peer = bench.cilium === undefined ? undefined : await deploy(bench.lab, 'cilium1', 'cilium2', probe);
using ground = floor();

await using stack = new AsyncDisposableStack();
const floorClient = inNamespace(ground.client, ours.client.uid, probe);
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
  stack.use(startServers(inNamespace(server, pod.uid, probe)));

const wanted = measures.filter(measure => measure.name.includes(values.measure));
/** Behind a ClusterIP only the echo ports are. */
const wantedOfService = wanted.filter(measure => measure !== throughput);

function path(
  name: string,
  below: Partial<Record<'plain' | 'floor', keyof Floor['paths']>>,
  to: (network: Network) => string,
): Path {
  const ways = new Map<Column, Way>();
  for (const [column, key] of Object.entries(below) as ['plain' | 'floor', keyof Floor['paths']][])
    ways.set(column, { client: floorClient, to: { address: ground.paths[key].address, ports } });
  for (const [column, network] of networks)
    ways.set(column, { client: network.client.place, to: { address: to(network), ports } });
  return { name, ways, measures: wanted, goals: {} };
}

/** A pod on the other node by its service's address: beside the floor, and beside our own way to the pod's address. */
function throughService(count: number): Path[] {
  const name = `ClusterIP, ${count === 0 ? '1 service' : `${count.toLocaleString('en')} services`}`;
  const beside = new Map<Column, Way>([
    ['floor', { client: ours.client.place, to: { address: ours.far.address, ports } }],
    ['isthmus', { client: ours.client.place, to: { address: ours.service, ports } }],
  ]);
  return [
    { ...path(name, { floor: 'vxlan' }, network => network.service), measures: wantedOfService },
    {
      name: `${name}, beside its pod's address`,
      ways: beside,
      measures: wantedOfService,
      goals: { 'one-byte round trip p50': '≤ 1.05', 'new connections': '≥ 0.98' },
    },
  ];
}

const results = new Results(measures);
const measurement = new Measurement(results, { rounds, seconds, path: values.path, report });

const between = (network: Network): string => network.far.address;
await measurement.take(
  native
    ? [
        {
          ...path('between nodes, native routing', { floor: 'plain' }, between),
          goals: { 'throughput, one stream': '≥ 0.97', 'one-byte round trip p50': '≤ 1.05' },
        },
      ]
    : [
        path('same node', { floor: 'sameNode' }, network => network.near.address),
        path('between nodes', { plain: 'plain', floor: 'vxlan' }, between),
        path(
          'between clusters',
          { plain: 'plainRouted', floor: 'vxlanRouted' },
          network => network.away.address,
        ),
        ...throughService(0),
      ],
);
const peerName = bench.cilium === undefined ? undefined : `Cilium ${bench.cilium}`;
if (services > 0 && !native) {
  report(results.markdown(peerName));
  const started = performance.now();
  await Promise.all(networks.map(([, network]) => network.addServices(services)));
  report(`${services} services everywhere after ${((performance.now() - started) / 1000).toFixed(0)} s`);
  await measurement.take(throughService(services));
}
console.log(results.markdown(peerName));
console.log(`\n${measurement.legend()}`);
