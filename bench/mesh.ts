/**
 * `npm run bench:mesh [-- ROW …]`: what a mesh of many clusters costs an agent, as deployed, on the one node of a real
 * cluster. The others are nothing but what a mirror of them holds, in a real etcd with mutual TLS and authentication.
 * Prints a Markdown table; rows are
 *
 *   value    parse and apply of a remote services/v1 value of 10,000 backends, in this process
 *   single   --changes of one cluster one after the other, to a mirror's copy of it, without a lab; with --peer
 *            kvstoremesh Cilium's beside ours
 *   storm    20 and 200 readers lose their etcd at once, and come back
 *   connect  the first --sizes clusters of the mesh are connected, while pods are started
 *   start    the agent is killed, and finds nothing of other clusters in its map
 *   slice    one change in an EndpointSlice of 100 of a service of 10,000
 *   huge     one change in a remote services/v1 value of 10,000 backends
 *            (both less what the agent does anyway, which is measured just before and after)
 *   changes  --rate changes a second of remote endpoints
 *   copies   one cluster of 10,000 endpoints, whose etcd is in another cluster's network, to a mirror's copy of it and
 *            to the agent's map, through the mirror and directly: the first read, --changes one after the other, --burst
 *            at once; over each --link (as 0ms, 40ms or 40ms,1%: delay each way and loss; may be given several times).
 *            Makes a lab of its own. With --peer kvstoremesh Cilium's copies the same cluster beside ours
 *
 * Options: --name LAB (made, and removed afterwards, unless it is up), --keep, --clusters N, --nodes N, --endpoints N,
 * --services N (of each cluster), --sizes N,N, --starts N,N, --rate N, --seconds S, --changes N, --burst N, --link WAY,
 * --peer kvstoremesh. The load of the machine is printed beside each row.
 */
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { log } from '../src/log.ts';
import { ciliumVersion } from '../test/interop/cilium-image.ts';
import { benchLab } from './bench-lab.ts';
import { markdown, type Result } from './control-plane/report.ts';
import { createShared, localSlice, remoteChanges, remoteValue } from './mesh/changes.ts';
import { connect, startUp } from './mesh/connect.ts';
import { copies, FAR, NEAR, openFar, parseWay } from './mesh/copies.ts';
import { single } from './mesh/single.ts';
import { storms } from './mesh/storm.ts';
import { SyntheticMesh } from './mesh/synthetic-mesh.ts';
import { parseAndApply } from './mesh/value.ts';
import { openBed } from './services/bed.ts';
import { installProbe } from './services/event-loop.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    name: { type: 'string', default: 'bmesh' },
    keep: { type: 'boolean', default: false },
    clusters: { type: 'string', default: '250' },
    nodes: { type: 'string', default: '100' },
    endpoints: { type: 'string', default: '1000' },
    services: { type: 'string', default: '100' },
    sizes: { type: 'string', default: '1,10,100,250' },
    starts: { type: 'string', default: '100,250' },
    readers: { type: 'string', default: '20,200' },
    rate: { type: 'string', default: '100' },
    seconds: { type: 'string', default: '15' },
    changes: { type: 'string', default: '200' },
    burst: { type: 'string', default: '500' },
    link: { type: 'string', multiple: true, default: ['0ms'] },
    peer: { type: 'string' },
  },
});
if (values.peer !== undefined && values.peer !== 'kvstoremesh')
  throw new Error(`--peer: found "${values.peer}", expected "kvstoremesh"`);
const peer = values.peer && `Cilium's kvstoremesh ${await ciliumVersion()}`;
const ways = values.link.map(parseWay);
log.level = 'error';
const numbers = (text: string): number[] => text.split(',').map(Number);
const clusters = Number(values.clusters);
const within = (text: string): number[] => numbers(text).filter(each => each <= clusters);
const changes = Number(values.changes);
const began = performance.now();

const results: Result[] = [];
async function measure(name: string, work: () => Promise<readonly Result[]>): Promise<void> {
  if (positionals.length && !positionals.includes(name)) return;
  const load = (): string => loadavg()[0]!.toFixed(1);
  const before = load();
  const found = await work();
  results.push(...found);
  const minutes = ((performance.now() - began) / 60_000).toFixed(1);
  console.error(
    `\n${name} (load ${before} before, ${load()} after; ${minutes} min)\n${markdown(found, peer)}`,
  );
}

const names = ['value', 'single', 'storm', 'connect', 'start', 'slice', 'huge', 'changes', 'copies'];
const unknown = positionals.filter(name => !names.includes(name));
if (unknown.length) throw new Error(`no row ${unknown.join(', ')}; there are ${names.join(', ')}`);
await measure('value', () => parseAndApply(10_000));
await measure('single', () => single(changes, peer !== undefined));
for (const readers of numbers(values.readers)) await measure('storm', () => storms(readers));
const asked = (...rows: readonly string[]): boolean =>
  !positionals.length || positionals.some(name => rows.includes(name));
if (asked('connect', 'start', 'slice', 'huge', 'changes')) await withLab();
if (asked('copies')) await withFarCluster();
console.log(`\n${markdown(results, peer)}`);

async function withLab(): Promise<void> {
  await using bench = await benchLab(
    values.name,
    [{ name: 'hub', network: 'isthmus', workers: 0 }],
    values.keep,
  );
  await using bed = await openBed(bench.lab, 'hub');
  const started = performance.now();
  const shape = {
    clusters,
    nodes: Number(values.nodes),
    endpoints: Number(values.endpoints),
    services: Number(values.services),
    namespace: bed.namespace,
  };
  // Free on any machine that runs a lab: nodes have their etcds there, and this one is the host.
  await using mesh = await SyntheticMesh.start(bench.lab.plan.router.hostAddress, 32_391, 'hub', shape);
  console.error(
    `${clusters} clusters are in etcd after ${((performance.now() - started) / 1000).toFixed(1)} s`,
  );
  const meshBed = { ...bed, mesh, loopReport: await installProbe(bed) };
  for (const size of within(values.sizes)) {
    await measure('connect', () => connect(meshBed, size));
    if (within(values.starts).includes(size)) await measure('start', () => startUp(meshBed, size));
  }
  await createShared(meshBed, 10);
  await measure('slice', () => localSlice(meshBed, 10_000, changes));
  await measure('huge', () => remoteValue(meshBed, 10_000, changes / 4));
  await measure('changes', () => remoteChanges(meshBed, Number(values.rate), Number(values.seconds)));
}

async function withFarCluster(): Promise<void> {
  const clusters = [
    { name: NEAR, network: 'isthmus', workers: 0 },
    { name: FAR, network: 'none', workers: 0 },
  ] as const;
  await using bench = await benchLab(`${values.name}-far`, clusters, values.keep);
  await using bed = await openBed(bench.lab, NEAR);
  const burst = Number(values.burst);
  const far = await openFar(bed, 10_000, burst);
  await using _etcd = far.far;
  for (const way of ways)
    await measure('copies', () => copies(far, way, { peer: peer !== undefined, changes, burst }));
}
