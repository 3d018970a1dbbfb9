import * as z from 'zod';
import { serviceKey } from '../../src/clustermesh/layout.ts';
import { PrefixFollower } from '../../src/kvstore/watch.ts';
import { Arrivals } from '../arrivals.ts';
import { type Bed, meshEtcd, now } from './bed.ts';
import type { GlobalService } from './global-service.ts';
import { watchServices } from './map-watch.ts';

/** Where a changed endpoint arrives. */
export const places = ['own mesh etcd', 'own map', 'remote map'] as const;
export type Place = (typeof places)[number];

/** Says when an endpoint of a service has arrived somewhere. */
export interface EndpointArrivals extends Disposable {
  /** Stamp in µs; resolves when the service has this backend there. Rejects after 60 s. */
  arrival(place: Place, service: string, backend: string): Promise<number>;
}

/** Where it can be watched: the mesh etcd of Cilium is for its own users. */
export const placesOf = ({ network }: Bed): readonly Place[] =>
  network === 'isthmus' ? places : places.filter(place => place !== 'own mesh etcd');

/** Watches the mesh etcd of us, and a node of each cluster. */
export async function watchArrivals(bed: Bed, services: readonly GlobalService[]): Promise<EndpointArrivals> {
  const seen = Object.fromEntries(places.map(place => [place, new Arrivals(place)])) as Record<
    Place,
    Arrivals
  >;
  const arrived = (place: Place, service: string, backend: string, stamp: number): void =>
    seen[place].note(`${service} ${backend}`, stamp);
  const stop = new AbortController();
  const etcd = placesOf(bed).includes('own mesh etcd') ? await meshEtcd(bed.us) : undefined;
  if (etcd !== undefined) {
    const prefix = serviceKey(bed.us.cluster.name, bed.namespace, '');
    const follower = new PrefixFollower(prefix, {
      put: ({ key, value }) => {
        const stamp = now();
        const [backend] = Object.keys(exported.parse(JSON.parse(value)).backends);
        if (backend !== undefined) arrived('own mesh etcd', key.slice(prefix.length), backend, stamp);
      },
      delete: () => undefined,
      listed: () => undefined,
    });
    follower.follow(etcd, stop.signal).catch(() => undefined);
  }
  const watches: Disposable[] = [];
  for (const [place, side] of [
    ['own map', 'us'],
    ['remote map', 'eu'],
  ] as const) {
    const names = new Map(services.map(each => [each[side], each.name]));
    watches.push(
      await watchServices(bed, bed[side].node, [...names.keys()], (address, backend, stamp) =>
        arrived(place, names.get(address)!, backend, stamp),
      ),
    );
  }
  return {
    arrival: (place, service, backend) => seen[place].of(`${service} ${backend}`),
    [Symbol.dispose]() {
      stop.abort();
      etcd?.close();
      for (const each of watches) each[Symbol.dispose]();
    },
  };
}

const exported = z.object({ backends: z.record(z.string(), z.unknown()) });
