/**
 * `npm run bench:services [-- ROW …]`: what many services cost, and how quickly they follow a change, on one node of
 * a real cluster. Prints a Markdown table; rows are
 *
 *   loop     100,000 endpoints arrive: the longest task of the agent, CNI calls and lease renewals meanwhile (asserted)
 *   few      a new service, a changed endpoint, and the agent's work for it, while there are few services
 *   many     the same with --services services and --endpoints endpoints
 *   rate     --rate changes a second: from the change to the map
 *   start    the agent is killed and its maps of services are removed: from exec to the last map row
 *
 * Options: --name LAB (made, and removed afterwards, unless it is up), --keep, --services N, --endpoints N,
 * --changes N, --rate N, --seconds S, --starts N. The load of the machine is printed beside each row.
 */
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { log } from '../src/log.ts';
import { benchLab } from './bench-lab.ts';
import { markdown, type Result } from './control-plane/report.ts';
import { openBed } from './services/bed.ts';
import { changes, rate } from './services/changes.ts';
import type { Crowd } from './services/crowd.ts';
import { empty, fill } from './services/fill.ts';
import { loop } from './services/loop.ts';
import { starts } from './services/start.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    name: { type: 'string', default: 'bench-svc' },
    keep: { type: 'boolean', default: false },
    services: { type: 'string', default: '10000' },
    endpoints: { type: 'string', default: '50000' },
    changes: { type: 'string', default: '100' },
    rate: { type: 'string', default: '100' },
    seconds: { type: 'string', default: '15' },
    starts: { type: 'string', default: '2' },
  },
});
log.level = 'error';
await using bench = await benchLab(
  values.name,
  [{ name: 'big', network: 'isthmus', workers: 0 }],
  values.keep,
);
await using bed = await openBed(bench.lab, 'big');
const crowd: Crowd = {
  namespace: bed.namespace,
  prefix: 'crowd',
  services: Number(values.services),
  endpoints: Number(values.endpoints),
  first: 4096,
};
const count = Number(values.changes);
let filled = false;
const withCrowd = async <T>(work: () => Promise<T>): Promise<T> => {
  if (!filled) {
    const started = performance.now();
    await fill(bed.lab, bed.cluster, crowd);
    filled = true;
    await bed.whenServed(crowd);
    console.error(`${crowd.services} services after ${((performance.now() - started) / 1000).toFixed(1)} s`);
  }
  return await work();
};
const present = `with ${crowd.services} services`;
const rows: Readonly<Record<string, () => Promise<readonly Result[]>>> = {
  loop: () => loop(bed),
  few: () => changes(bed, count, 'with few services', 'few'),
  many: () => withCrowd(() => changes(bed, count, present, 'many')),
  rate: () => withCrowd(() => rate(bed, Number(values.rate), Number(values.seconds), present)),
  start: () => withCrowd(() => starts(bed, crowd, Number(values.starts))),
};
const unknown = positionals.filter(name => !(name in rows));
if (unknown.length)
  throw new Error(`no row ${unknown.join(', ')}; there are ${Object.keys(rows).join(', ')}`);
const results: Result[] = [];
try {
  for (const [name, measure] of Object.entries(rows)) {
    if (positionals.length && !positionals.includes(name)) continue;
    const load = (): string => loadavg()[0]!.toFixed(1);
    const before = load();
    const found = await measure();
    results.push(...found);
    console.error(`\n${name} (load ${before} before, ${load()} after)\n${markdown(found, undefined)}`);
  }
} finally {
  if (filled && values.keep) await empty(bed.lab, bed.cluster, crowd);
}
console.log(`\n${markdown(results, undefined)}`);
