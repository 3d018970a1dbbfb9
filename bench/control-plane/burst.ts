import { type Bed, now } from './bed.ts';
import { createGlobalService, type GlobalService, moveEndpoint } from './global-service.ts';
import { places, watchArrivals } from './propagation.ts';
import { type Result, seconds } from './report.ts';

/** Requests that are under way at once. */
const parallel = 8;

const cilium = { api: '2 s', 'own mesh etcd': '19.0 s', 'own map': '', 'remote map': '19.2 s' } as const;

/** Changes all endpoints of many services at once; time from just before the first until all are there. */
export async function burst(bed: Bed, count: number): Promise<Result[]> {
  const services: GlobalService[] = [];
  await each(count, async n => {
    services[n] = await createGlobalService(bed, `burst-${n}`, '10.252.0.1');
  });
  using arrivals = await watchArrivals(bed, services);
  const all = async (backend: string, place: (typeof places)[number]): Promise<number> =>
    Math.max(...(await Promise.all(services.map(({ name }) => arrivals.arrival(place, name, backend)))));
  await Promise.all(places.map(place => all('10.252.0.1', place)));

  const started = now();
  const answered = each(count, n => moveEndpoint(bed, `burst-${n}`, '10.252.0.2')).then(now);
  const there = await Promise.all(places.map(place => all('10.252.0.2', place)));
  const api = await answered;
  const row = (where: string, stamp: number, reference: string, goal = '< 1 s'): Result => ({
    what: `${count} endpoint changes at once → ${where}`,
    isthmus: `${seconds(stamp - started)}${stamp === api ? '' : ` (${seconds(stamp - api)} after the last answer)`}`,
    goal,
    cilium: reference,
  });
  return [
    row('API server has answered all', api, cilium.api, ''),
    ...places.map((place, index) => row(`all in ${place}`, there[index]!, cilium[place])),
  ];
}

async function each(count: number, work: (n: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: parallel }, worker));
}
