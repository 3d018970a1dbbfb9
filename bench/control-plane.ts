/**
 * `npm run bench:control-plane [-- ROW …]`: how quickly a change reaches the kernel, what the daemons cost, and
 * how quickly they start, on a lab whose clusters us and eu are joined (`isthmus lab up --join`). Prints a Markdown
 * table; rows are
 *
 *   idle     memory and CPU of the daemons, memory of the maps
 *   change   one endpoint's change to the own mesh etcd, the own map, the remote cluster's map
 *   slow     the same with a slow link between the clusters
 *   burst    many endpoints changed at once
 *   pods     pod start
 *   remote   memory and CPU with 1,000 and 10,000 remote endpoints, a newly connected cluster, agents killed
 *
 * Options: --name LAB, --changes N, --delay MS (each way), --burst N, --pods N, --endpoints N, --seconds S (of
 * looking at CPU). Absolute times mean little on a busy machine: the load is printed beside each row.
 */
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { defaultLab } from '../src/lab/plan.ts';
import { log } from '../src/log.ts';
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
    name: { type: 'string', default: defaultLab },
    changes: { type: 'string', default: '100' },
    delay: { type: 'string', default: '40' },
    burst: { type: 'string', default: '500' },
    pods: { type: 'string', default: '12' },
    endpoints: { type: 'string', default: '10000' },
    seconds: { type: 'string', default: '30' },
  },
});
const seconds = Number(values.seconds);
log.level = 'error';

const rows: Readonly<Record<string, (bed: Bed) => Promise<readonly Result[]>>> = {
  idle: async bed => [...(await cost(bed, 0, seconds)), mapMemory(bed)],
  change: bed => changes(bed, Number(values.changes)),
  slow: bed => slowChanges(bed, Number(values.changes), Number(values.delay)),
  burst: bed => burst(bed, Number(values.burst)),
  pods: bed => podStarts(bed, Number(values.pods)),
  remote: bed => remote(bed, Number(values.endpoints)),
};

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
await using bed = await openBed(values.name);
for (const [name, measure] of Object.entries(rows)) {
  if (positionals.length && !positionals.includes(name)) continue;
  const load = (): string => loadavg()[0]!.toFixed(1);
  const before = load();
  const found = await measure(bed);
  results.push(...found);
  console.error(`\n${name} (load ${before} before, ${load()} after)\n${markdown(found)}`);
}
console.log(`\n${markdown(results)}`);
