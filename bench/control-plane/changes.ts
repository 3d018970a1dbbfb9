import { setTimeout as pause } from 'node:timers/promises';
import { fault } from '../../src/lab/fault.ts';
import { type Bed, now } from './bed.ts';
import { createGlobalService, moveEndpoint } from './global-service.ts';
import { type EndpointArrivals, type Place, places, placesOf, watchArrivals } from './propagation.ts';
import { quantile, type Result, spread } from './report.ts';

interface Reference {
  readonly goal: string;
  readonly cilium: string;
}

const references: Readonly<Record<Place | 'api', Reference>> = {
  api: { goal: '', cilium: '5.0 / 6.3 / 14.0' },
  'own mesh etcd': { goal: '', cilium: '7.8 / 9.6 / 17.1' },
  'own map': { goal: 'p50 < 10, p99 < 30', cilium: '282 / – / 506' },
  'remote map': { goal: 'p50 < 10, p99 < 20', cilium: '10.1 / 13.0 / 20.2' },
};

/** µs in which of 100 changes 99 must be in the other cluster's map, however busy the machine is. */
const PROPAGATION = 1e6;

/** One service whose endpoint changes again and again, and how long each change took, in µs. */
interface Series {
  readonly bed: Bed;
  readonly arrivals: EndpointArrivals;
  readonly times: Record<Place | 'api', number[]>;
}

const address = (n: number): string => `10.251.${n >> 8}.${n & 255}`;

/**
 * From just before the PATCH of an EndpointSlice until its endpoint is there; one change after the other, in turn
 * with the peer.
 */
export async function changes(
  beds: readonly Bed[],
  count: number,
  name = 'change',
): Promise<readonly Result[]> {
  using stack = new DisposableStack();
  const all: Series[] = [];
  for (const bed of beds) {
    const service = await createGlobalService(bed, name, address(0));
    const arrivals = stack.use(await watchArrivals(bed, [service]));
    await Promise.all(placesOf(bed).map(place => arrivals.arrival(place, name, address(0))));
    all.push({
      bed,
      arrivals,
      times: { api: [], 'own mesh etcd': [], 'own map': [], 'remote map': [] },
    });
  }
  for (let n = 1; n <= count; n++)
    for (const series of all) {
      await change(series, name, address(n));
      // Not in step with anything that happens regularly.
      await pause(100 + Math.random() * 200);
    }
  const [own, peer] = all;
  // docs/contracts.md promises it.
  if (quantile(own!.times['remote map'], 0.99) > PROPAGATION) process.exitCode = 1;
  const row = (where: string, place: Place | 'api'): Result => ({
    what: `endpoint change → ${where}, ms p50 / p90 / p99`,
    isthmus: spread(own!.times[place]),
    ...(peer?.times[place].length && { peer: spread(peer.times[place]) }),
    ...references[place],
  });
  return [row('API server has answered', 'api'), ...places.map(place => row(place, place))];
}

async function change({ bed, arrivals, times }: Series, name: string, to: string): Promise<void> {
  const started = now();
  const answered = moveEndpoint(bed, name, to).then(() => times.api.push(now() - started));
  await Promise.all(
    placesOf(bed).map(async place => times[place].push((await arrivals.arrival(place, name, to)) - started)),
  );
  await answered;
}

/** The same while packets between the clusters take `delay` ms each way. */
export async function slowChanges(beds: readonly Bed[], count: number, delay: number): Promise<Result[]> {
  const [{ lab }] = beds as readonly [Bed, ...Bed[]];
  const links = beds.map(({ us, eu }) => `${us.cluster.name}-${eu.cluster.name}`);
  for (const link of links) await fault(lab.plan.name, { kind: 'slow', link, milliseconds: delay });
  try {
    const results = await changes(beds, count, `slow-change-${delay}`);
    return results
      .filter(({ what }) => what.includes('map'))
      .map(each => ({
        ...each,
        what: `${delay} ms each way: ${each.what}`,
        goal: '',
        cilium: '',
      }));
  } finally {
    for (const link of links) await fault(lab.plan.name, { kind: 'heal', target: link });
  }
}
