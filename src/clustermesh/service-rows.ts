import type { EndpointSlice } from '../api/endpoint-slice.ts';
import type { Entry } from '../kvstore/range.ts';
import type {
  BackendPort,
  RemoteBackends,
  RemotePart,
  RemoteService,
} from '../loadbalancer/remote-service.ts';
import type { Table } from '../table/table.ts';
import { type Candidate, endpointStates } from './endpoint-states.ts';
import { LARGE, LargeService } from './large-service.ts';
import type { EntryWriter } from './remote-consumer.ts';
import { parseSlice } from './slice-value.ts';
import { type Origin, parseService } from './values.ts';

/** The slices of one service, by their names. */
interface Slices {
  readonly namespace: string;
  readonly name: string;
  readonly byName: Map<string, EndpointSlice>;
}

/**
 * The services of one cluster as rows of the table, from whichever it exports: a value for each, or its EndpointSlices.
 * Where it changes from one to the other, a row stays until the other says the same, or, when that is listed, nothing of it.
 */
export class ServiceRows {
  readonly #table: Table<RemoteService>;
  /** By `namespace/name`: the services of which rows are made of slices. */
  readonly #services = new Map<string, Slices>();
  /** By `namespace/slice`, the service that it is of. */
  readonly #serviceOf = new Map<string, string>();
  /** Rows that are made of a value, until the slices that there are instead are complete. */
  readonly #waiting = new Map<string, Origin>();
  #complete = false;

  constructor(table: Table<RemoteService>) {
    this.#table = table;
  }

  /** Writes values of `services/v1`. */
  values(origin: Origin): EntryWriter {
    const remove = (service: string): void => {
      if (!this.#services.has(service)) this.#delete(origin, service);
    };
    const large = new Map<string, LargeService>();
    return {
      put: (name, entry) => {
        const row = readService(large, name, entry, origin);
        this.#services.delete(name);
        this.#waiting.delete(name);
        if (row) this.#table.upsert(row);
        else remove(name);
      },
      delete: name => {
        large.delete(name);
        remove(name);
      },
    };
  }

  /** Writes values of `endpointslices/v1`. */
  slices(origin: Origin): EntryWriter {
    this.#complete = false;
    const remove = (name: string): void => {
      const service = this.#serviceOf.get(name);
      this.#serviceOf.delete(name);
      if (service !== undefined && this.#services.get(service)?.byName.delete(name))
        this.#merge(origin, service);
    };
    return {
      put: (name, { key, bytes }) => {
        const slice = parseSlice(key, name, bytes, origin);
        if (this.#serviceOf.get(name) !== slice?.service) remove(name);
        if (!slice) return;
        const { namespace, service } = slice;
        let slices = this.#services.get(service);
        if (!slices) {
          slices = { namespace, name: service.slice(namespace.length + 1), byName: new Map() };
          this.#services.set(service, slices);
          if (!this.#complete && this.#table.has(`${origin.cluster}/${service}`))
            this.#waiting.set(service, origin);
        }
        this.#serviceOf.set(name, service);
        slices.byName.set(name, slice);
        if (!this.#waiting.has(service)) this.#merge(origin, service);
      },
      delete: remove,
    };
  }

  /** All slices that there are have been written. */
  slicesListed(): void {
    this.#complete = true;
    for (const [service, origin] of this.#waiting) this.#merge(origin, service);
    this.#waiting.clear();
  }

  #merge(origin: Origin, service: string): void {
    const slices = this.#services.get(service);
    if (slices?.byName.size) return void this.#table.upsert(mergeSlices(origin, slices));
    this.#services.delete(service);
    this.#waiting.delete(service);
    this.#delete(origin, service);
  }

  #delete({ cluster }: Origin, service: string): void {
    this.#table.delete(`${cluster}/${service}`);
  }
}

/** What a large service was is remembered by the name of its entry, to read only what differs. */
function readService(
  large: Map<string, LargeService>,
  name: string,
  entry: Entry,
  origin: Origin,
): RemoteService | undefined {
  if (entry.bytes.length < LARGE) {
    large.delete(name);
    return parseService(entry.key, name, entry.value, origin);
  }
  const service = large.get(name) ?? new LargeService();
  large.set(name, service);
  return service.read(entry.key, name, entry, origin);
}

/** All slices of a service as one row; names of slices give the order. */
function mergeSlices(origin: Origin, { namespace, name, byName }: Slices): RemoteService {
  const sorted = [...byName].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, slice]) => slice);
  const { usable, terminating, notReady } = endpointStates(sorted);
  const hostnames = usable.flatMap(({ endpoint }) =>
    endpoint.hostname ? [[endpoint.address, endpoint.hostname] as const] : [],
  );
  return {
    cluster: origin.cluster,
    clusterId: origin.clusterId,
    namespace,
    name,
    backends: partsOf(usable),
    ...(terminating.length ? { terminating: partsOf(terminating) } : {}),
    ...(notReady.length ? { notReady: partsOf(notReady) } : {}),
    ...(hostnames.length ? { hostnames: Object.fromEntries(hostnames) } : {}),
  };
}

/** Endpoints of a service as parts, one for each slice: of a slice that has not changed it is the same object as before. */
function partsOf(candidates: readonly Candidate[]): RemoteBackends {
  const bySlice = new Map<EndpointSlice, string[]>();
  for (const { slice, endpoint } of candidates) {
    const addresses = bySlice.get(slice) ?? [];
    addresses.push(endpoint.address);
    bySlice.set(slice, addresses);
  }
  const lists = [...bySlice.values()];
  const count = new Set(lists.flat()).size;
  // An address that is in two slices has the ports of both.
  if (count < lists.reduce((sum, each) => sum + each.length, 0)) return [onePart(bySlice)];
  return Array.from(bySlice, ([slice, addresses]) => partOf(slice, addresses));
}

/** By slice, and by the addresses of it that are in the part: one of them is of each state at most. */
const partsOfSlices = new WeakMap<EndpointSlice, Map<string, RemotePart>>();

function partOf(slice: EndpointSlice, addresses: readonly string[]): RemotePart {
  const known = partsOfSlices.get(slice) ?? new Map<string, RemotePart>();
  partsOfSlices.set(slice, known);
  const name = addresses.join();
  const part = known.get(name) ?? onePart([[slice, addresses]]);
  known.set(name, part);
  return part;
}

function onePart(of: Iterable<readonly [slice: EndpointSlice, addresses: readonly string[]]>): RemotePart {
  // Without a prototype it is a hash table: of any other object the engine would keep a shape for each set of addresses.
  const part: Record<string, RemotePart[string]> = Object.create(null);
  for (const [{ ports }, addresses] of of) {
    const named: Record<string, BackendPort> = {};
    for (const { name, protocol, port } of ports) named[name] = { protocol, port };
    for (const address of addresses) {
      const before = part[address];
      part[address] = before ? { ...before, ...named } : named;
    }
  }
  return part;
}
