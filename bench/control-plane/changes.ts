import { setTimeout as pause } from 'node:timers/promises';
import { fault } from '../../src/lab/fault.ts';
import { type Bed, now } from './bed.ts';
import { createGlobalService, moveEndpoint } from './global-service.ts';
import { type Place, places, watchArrivals } from './propagation.ts';
import { type Result, spread } from './report.ts';

interface Reference {
  readonly goal: string;
  readonly cilium: string;
}

const references: Readonly<Record<Place, Reference>> = {
  'own mesh etcd': { goal: '', cilium: '7.8 / 9.6 / 17.1' },
  'own map': { goal: 'p50 < 10, p99 < 30', cilium: '282 / – / 506' },
  'remote map': { goal: 'p50 < 10, p99 < 20', cilium: '10.1 / 13.0 / 20.2' },
};

/** From just before the PATCH of an EndpointSlice until its endpoint is there; one change after the other. */
export async function changes(bed: Bed, count: number, name = 'change'): Promise<Result[]> {
  const address = (n: number): string => `10.251.${n >> 8}.${n & 255}`;
  const service = await createGlobalService(bed, name, address(0));
  using arrivals = await watchArrivals(bed, [service]);
  await Promise.all(places.map(place => arrivals.arrival(place, name, address(0))));
  const times: Record<Place | 'api', number[]> = {
    api: [],
    'own mesh etcd': [],
    'own map': [],
    'remote map': [],
  };
  for (let n = 1; n <= count; n++) {
    const started = now();
    const answered = moveEndpoint(bed, name, address(n)).then(() => times.api.push(now() - started));
    await Promise.all(
      places.map(async place =>
        times[place].push((await arrivals.arrival(place, name, address(n))) - started),
      ),
    );
    await answered;
    // Not in step with anything that happens regularly.
    await pause(100 + Math.random() * 200);
  }
  const row = (where: string, micros: readonly number[], reference: Reference): Result => ({
    what: `endpoint change → ${where}, ms p50 / p90 / p99`,
    isthmus: spread(micros),
    ...reference,
  });
  return [
    row('API server has answered', times.api, { goal: '', cilium: '5.0 / 6.3 / 14.0' }),
    ...places.map(place => row(place, times[place], references[place])),
  ];
}

/** The same while packets between the clusters take `delay` ms each way. */
export async function slowChanges(bed: Bed, count: number, delay: number): Promise<Result[]> {
  const lab = bed.lab.plan.name;
  await fault(lab, { kind: 'slow', link: 'us-eu', milliseconds: delay });
  try {
    const results = await changes(bed, count, 'slow-change');
    return results
      .filter(({ what }) => what.includes('map'))
      .map(each => ({
        ...each,
        what: `${delay} ms each way: ${each.what}`,
        goal: '',
        cilium: '',
      }));
  } finally {
    await fault(lab, { kind: 'heal', target: 'us-eu' });
  }
}
