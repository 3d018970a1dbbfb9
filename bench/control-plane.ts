/**
 * `npm run bench:control-plane [-- ROW …]`: how quickly a change reaches the kernel, what the daemons cost, and
 * how quickly they start. Prints a Markdown table; rows are
 *
 *   idle     memory and CPU of the daemons, memory of the maps
 *   change   one endpoint's change to the own mesh etcd, the own map, the remote cluster's map
 *   slow     the same with a slow link between the clusters, for every --delay
 *   burst    many endpoints changed at once
 *   pods     pod start
 *   remote   memory and CPU with 1,000 and 10,000 remote endpoints, a newly connected cluster, agents killed
 *
 * Options: --peer cilium (beside ours in idle, change and slow), --name LAB (made, and removed afterwards, unless
 * it is up; any joined lab does that has clusters us and eu), --keep, --changes N, --delay MS (each way; may be
 * given several times), --burst N, --pods N, --endpoints N, --seconds S (of looking at CPU). Absolute times mean
 * little on a busy machine: the load is printed beside each row.
 */
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { log } from '../src/log.ts';
import { benchLab, pairOfClusters } from './bench-lab.ts';
import { type Bed, openBed } from './control-plane/bed.ts';
import { burst } from './control-plane/burst.ts';
import { changes, slowChanges } from './control-plane/changes.ts';
import { cost, mapMemory } from './control-plane/cost.ts';
import { podStarts } from './control-plane/pod-start.ts';
import { connectResults, remoteEndpoints } from './control-plane/remote-endpoints.ts';
import { markdown, type Result } from './control-plane/report.ts';
import { restarts } from './control-plane/restart.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    name: { type: 'string', default: 'bench' },
    peer: { type: 'string' },
    keep: { type: 'boolean', default: false },
    changes: { type: 'string', default: '100' },
    delay: { type: 'string', multiple: true, default: ['40', '80'] },
    burst: { type: 'string', default: '500' },
    pods: { type: 'string', default: '12' },
    endpoints: { type: 'string', default: '10000' },
    seconds: { type: 'string', default: '30' },
  },
});
if (values.peer !== undefined && values.peer !== 'cilium')
  throw new Error(`--peer: found "${values.peer}", expected "cilium"`);
const seconds = Number(values.seconds);
log.level = 'error';

const rows: Readonly<Record<string, (bed: Bed, peer: Bed | undefined) => Promise<readonly Result[]>>> = {
  idle: async (bed, peer) => [...(await cost(bed, 0, seconds, peer)), mapMemory(bed, peer)],
  change: (bed, peer) => changes(both(bed, peer), Number(values.changes)),
  slow: async (bed, peer) => {
    const results: Result[] = [];
    for (const delay of values.delay)
      results.push(...(await slowChanges(both(bed, peer), Number(values.changes), Number(delay))));
    return results;
  },
  burst: bed => burst(bed, Number(values.burst)),
  pods: bed => podStarts(bed, Number(values.pods)),
  remote: bed => remote(bed, Number(values.endpoints)),
};

const both = (bed: Bed, peer: Bed | undefined): readonly Bed[] => (peer === undefined ? [bed] : [bed, peer]);

async function remote(bed: Bed, many: number): Promise<Result[]> {
  await using endpoints = await remoteEndpoints(bed);
  const few = many / 10;
  await endpoints.connect(few);
  const small = await cost(bed, few, seconds);
  await endpoints.disconnect();
  const connected = await endpoints.connect(many);
  return [
    ...small,
    ...connectResults(many, connected),
    ...(await cost(bed, many, seconds)),
    ...(await restarts(bed, many)),
  ];
}

const unknown = positionals.filter(name => !(name in rows));
if (unknown.length)
  throw new Error(`no row ${unknown.join(', ')}; there are ${Object.keys(rows).join(', ')}`);
const results: Result[] = [];
await using bench = await benchLab(values.name, pairOfClusters(values.peer !== undefined), values.keep);
await using bed = await openBed(bench.lab);
await using peer = values.peer === undefined ? undefined : await openBed(bench.lab, 'cilium');
const peerName = bench.cilium === undefined ? undefined : `Cilium ${bench.cilium}`;
for (const [name, measure] of Object.entries(rows)) {
  if (positionals.length && !positionals.includes(name)) continue;
  const load = (): string => loadavg()[0]!.toFixed(1);
  const before = load();
  const found = await measure(bed, peer);
  results.push(...found);
  console.error(`\n${name} (load ${before} before, ${load()} after)\n${markdown(found, peerName)}`);
}
console.log(`\n${markdown(results, peerName)}`);
