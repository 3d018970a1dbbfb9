import { parse } from '../datapath/address.ts';
import type { Backend } from '../loadbalancer/backend.ts';
import { type Frontend, frontendAddress } from '../loadbalancer/frontend.ts';
import { IdPool } from '../loadbalancer/id-pool.ts';
import { assignSlots } from '../loadbalancer/slots.ts';
import type { Operation, Target } from '../table/reconciler.ts';
import {
  addressOfKey,
  type BackendKey,
  type BackendValue,
  FRONTEND_AFFINITY,
  FRONTEND_MAGLEV,
  type FrontendKey,
  type FrontendValue,
  frontendFlags,
  frontendKey,
  keyOfBackend,
  type MemberKey,
  type MemberValue,
  PROTOCOLS,
  prefixOfSourceRange,
  type RowMap,
  type ServiceMaps,
  type SlotKey,
  type SlotValue,
  type SourceRangeKey,
  type SourceRangeValue,
  sourceRangeKey,
} from './service-maps.ts';

/** What the maps hold of one frontend. */
interface Programmed {
  readonly key: FrontendKey;
  readonly value: FrontendValue;
  /** Backend id per slot; 0 where the slot's row is missing or unknown. */
  readonly slots: readonly number[];
  /** Backend ids that clients may be sent to again; empty without session affinity. */
  readonly members: ReadonlySet<number>;
  /** Prefixes of the clients that may connect; of no meaning without their flag. */
  readonly ranges: ReadonlySet<string>;
  /** Its backends, where each has one slot and there are no others; undefined where that is not known. */
  readonly backends?: readonly Backend[] | undefined;
}

interface Plan {
  readonly address: string;
  readonly row: Frontend;
  readonly before: Programmed | undefined;
  readonly after: Programmed;
  /** Those of the row's backends whose rows may be missing. */
  readonly added: readonly Backend[];
}

type Write<K, V> = readonly [plan: Plan, key: K, value: V];

/**
 * Makes the service maps equal to a table of frontends. Adopts what the maps hold: service and
 * backend ids survive an agent's restart, so that neither connections nor affinity notice it.
 *
 * A reader in the kernel picks one of `count` slots, then the backend it names. Rows are therefore
 * written in the order backends, slots, frontends, and what is no longer named is removed only
 * after `grace` milliseconds, when no reader can hold its name. Only rows that differ are written.
 * What allows something goes at once: members, which let a client with session affinity return to its
 * backend, and ranges of clients that may connect.
 */
export class LoadBalancer implements Target<Frontend>, Disposable {
  readonly #maps: ServiceMaps;
  readonly #grace: number;
  readonly #onError: (error: Error) => void;
  readonly #onBackendsGone: () => void;
  readonly #programmed = new Map<string, Programmed>();
  readonly #serviceIds = new IdPool();
  readonly #backendIds = new IdPool();
  readonly #backends = new Map<string, number>();
  readonly #backendKeys = new Map<number, string>();
  #slotCount = 0;
  /** How many slots name a backend. */
  readonly #references = new Map<number, number>();
  /** Backend rows that are in the map. */
  readonly #present = new Set<number>();
  /** By service id. */
  readonly #live = new Map<number, Programmed>();
  #staleSlots: SlotKey[] = [];
  readonly #staleBackends = new Set<number>();
  #staleMembers: MemberKey[] = [];
  #staleRanges: SourceRangeKey[] = [];
  readonly #staleServices = new Set<number>();
  #timer: NodeJS.Timeout | undefined;

  constructor(
    maps: ServiceMaps,
    options: {
      readonly grace?: number;
      readonly onError?: (error: Error) => void;
      /** Backends have left that no service has any more. */
      readonly onBackendsGone?: () => void;
    } = {},
  ) {
    this.#maps = maps;
    this.#grace = options.grace ?? 10;
    this.#onError = options.onError ?? (() => {});
    this.#onBackendsGone = options.onBackendsGone ?? (() => {});
    this.#adopt();
  }

  existing(): Iterable<string> {
    return [...this.#programmed.keys()];
  }

  /** Whether a service may send new connections to a backend (by `backendKey`). */
  isBackend(key: string): boolean {
    return (this.#references.get(this.#backends.get(key) ?? 0) ?? 0) > 0;
  }

  /** Numeric id of a frontend, for status pages. */
  serviceId(address: string): number | undefined {
    return this.#programmed.get(address)?.value.service_id;
  }

  /** Rows of the maps. */
  get counts(): { readonly frontends: number; readonly slots: number; readonly backends: number } {
    return { frontends: this.#programmed.size, slots: this.#slotCount, backends: this.#present.size };
  }

  apply(batch: readonly Operation<Frontend>[]): ReadonlyMap<string, Error> {
    const failed = new Map<string, Error>();
    const plans = batch.flatMap(({ key, row }) => (row ? [this.#plan(key, row)] : []));

    write(this.#maps.backends, this.#backendWrites(plans), failed, id => this.#present.add(id.backend_id));
    for (const plan of plans) {
      const missing = plan.added
        .map(each => this.#backends.get(each.key)!)
        .find(id => !this.#present.has(id));
      if (missing !== undefined && !failed.has(plan.address))
        failed.set(plan.address, new Error(`backend ${this.#backendKeys.get(missing)} could not be written`));
    }
    const ready = plans.filter(plan => !failed.has(plan.address));
    write(this.#maps.members, ready.flatMap(memberWrites), failed);
    write(this.#maps.sourceRanges, ready.flatMap(rangeWrites), failed);
    write(this.#maps.slots, ready.flatMap(slotWrites), failed);
    write(
      this.#maps.frontends,
      ready.filter(plan => !failed.has(plan.address)).flatMap(frontendWrites),
      failed,
    );

    for (const plan of plans) this.#commit(plan, failed.has(plan.address));
    for (const { key, row } of batch) if (!row) this.#remove(key, failed);
    this.#revoke();
    this.#scheduleSweep();
    return failed;
  }

  /** Removes rows that nothing names any more. Runs by itself after the grace time. */
  sweep(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const slots = this.#staleSlots;
    this.#staleSlots = [];
    this.#revoke();
    try {
      for (const key of slots) if (!this.#isLive(key)) this.#maps.slots.delete(key);
      for (const id of this.#staleServices) this.#serviceIds.release(id);
      this.#staleServices.clear();
      let gone = 0;
      for (const id of this.#staleBackends) {
        if ((this.#references.get(id) ?? 0) > 0) continue;
        this.#maps.backends.delete({ backend_id: id });
        this.#present.delete(id);
        this.#backends.delete(this.#backendKeys.get(id) ?? '');
        this.#backendKeys.delete(id);
        this.#backendIds.release(id);
        gone++;
      }
      if (gone) this.#onBackendsGone();
      this.#staleBackends.clear();
    } catch (error) {
      this.#staleSlots.push(...slots);
      this.#onError(error instanceof Error ? error : new Error(String(error)));
    }
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  #plan(address: string, row: Frontend): Plan {
    const before = this.#programmed.get(address);
    const exchanged = this.#exchange(before, row);
    const slots = exchanged?.slots ?? this.#assign(before, row);
    const value: FrontendValue = {
      service_id: before?.value.service_id ?? this.#serviceIds.allocate(),
      count: slots.length,
      affinity_timeout: row.affinityTimeout,
      flags: frontendFlags(row),
    };
    const members = new Set(value.flags & FRONTEND_AFFINITY ? slots : []);
    const ranges = new Set(row.sourceRanges);
    return {
      address,
      row,
      before,
      added: exchanged?.added ?? row.backends,
      after: {
        key: before?.key ?? frontendKey(row),
        value,
        slots,
        members,
        ranges,
        backends: row.weights || row.partial ? undefined : row.backends,
      },
    };
  }

  #assign(before: Programmed | undefined, row: Frontend): number[] {
    const wanted = row.backends.map(each => this.#idOf(each));
    const chosen = row.partial && before ? new Set(wanted) : undefined;
    row.weights?.forEach((weight, at) => {
      for (let more = 1; more < weight; more++) wanted.push(wanted[at]!);
    });
    if (chosen) for (const id of before?.slots ?? []) if (id !== 0 && !chosen.has(id)) wanted.push(id);
    return assignSlots(before?.slots ?? [], wanted);
  }

  /** The slots where a few of many backends are others: what stays is not looked at one by one. */
  #exchange(
    before: Programmed | undefined,
    row: Frontend,
  ): { readonly slots: number[]; readonly added: readonly Backend[] } | undefined {
    if (!before?.backends || row.weights || row.partial) return undefined;
    const { removed, added } = differenceOf(before.backends, row.backends);
    if (removed.length + added.length > FEW) return undefined;
    const slots = before.slots.slice();
    const incoming = added.map(each => this.#idOf(each));
    const holes: number[] = [];
    for (const { key } of removed) {
      const slot = slots.indexOf(this.#backends.get(key) ?? 0);
      if (slot < 0) return undefined;
      const id = incoming.shift();
      if (id === undefined) holes.push(slot);
      else slots[slot] = id;
    }
    slots.push(...incoming);
    // The last slots move into holes that are left.
    for (const hole of holes.sort((a, b) => b - a)) {
      const last = slots.pop()!;
      if (hole < slots.length) slots[hole] = last;
    }
    return { slots, added };
  }

  #idOf(backend: Backend): number {
    let id = this.#backends.get(backend.key);
    if (id === undefined) {
      id = this.#backendIds.allocate();
      this.#backends.set(backend.key, id);
      this.#backendKeys.set(id, backend.key);
    }
    return id;
  }

  #backendWrites(plans: readonly Plan[]): Write<BackendKey, BackendValue>[] {
    const writes: Write<BackendKey, BackendValue>[] = [];
    const pending = new Set<number>();
    for (const plan of plans)
      for (const backend of plan.added) {
        const id = this.#backends.get(backend.key)!;
        if (this.#present.has(id) || pending.has(id)) continue;
        pending.add(id);
        writes.push([plan, { backend_id: id }, backendValue(backend)]);
      }
    return writes;
  }

  #commit(plan: Plan, failed: boolean): void {
    const { address, before, after } = plan;
    if (failed) {
      // What is in the maps now is between the two: read it again, so that the retry starts from the truth.
      const value = this.#maps.frontends.get(after.key);
      for (const id of after.slots) this.#staleBackends.add(id);
      if (value) {
        const slots = this.#readSlots(value);
        const members = this.#readMembers(value, slots, after);
        // Written again by the retry, which is what narrows them.
        const ranges = new Set([...(before?.ranges ?? []), ...after.ranges]);
        this.#replace(address, { key: after.key, value, slots, members, ranges });
      } else if (!before) {
        this.#staleServices.add(after.value.service_id);
        for (const id of after.members)
          this.#staleMembers.push({ service_id: after.value.service_id, backend_id: id });
        for (const range of after.ranges)
          this.#staleRanges.push(sourceRangeKey(after.value.service_id, range));
        for (const slot of after.slots.keys())
          this.#staleSlots.push({ service_id: after.value.service_id, slot });
      }
      return;
    }
    this.#replace(address, after);
  }

  #remove(address: string, failed: Map<string, Error>): void {
    const present = this.#programmed.get(address);
    if (!present) return;
    try {
      this.#maps.frontends.delete(present.key);
    } catch (error) {
      failed.set(address, error instanceof Error ? error : new Error(String(error)));
      return;
    }
    this.#replace(address, undefined);
    this.#staleServices.add(present.value.service_id);
  }

  #replace(address: string, next: Programmed | undefined): void {
    const before = this.#programmed.get(address);
    const old = before?.slots ?? [];
    const slots = next?.slots ?? [];
    const serviceId = (next ?? before)?.value.service_id ?? 0;
    this.#slotCount += slots.length - old.length;
    for (let slot = 0; slot < Math.max(old.length, slots.length); slot++) {
      const was = old[slot] ?? 0;
      const is = slots[slot] ?? 0;
      if (was !== is) {
        this.#reference(was, -1);
        this.#reference(is, +1);
      }
      if (slot >= slots.length) this.#staleSlots.push({ service_id: serviceId, slot });
    }
    for (const id of before?.members ?? [])
      if (!next?.members.has(id)) this.#staleMembers.push({ service_id: serviceId, backend_id: id });
    for (const range of before?.ranges ?? [])
      if (!next?.ranges.has(range)) this.#staleRanges.push(sourceRangeKey(serviceId, range));
    this.#keepMaglev(serviceId, before, next);
    if (next) {
      this.#programmed.set(address, next);
      this.#live.set(serviceId, next);
    } else {
      this.#programmed.delete(address);
      this.#live.delete(serviceId);
    }
  }

  /** Asks for a new table where the backends are others; until it is there, or without one, any slot will do. */
  #keepMaglev(serviceId: number, before: Programmed | undefined, next: Programmed | undefined): void {
    const { maglev } = this.#maps;
    const had = !!before && (before.value.flags & FRONTEND_MAGLEV) !== 0;
    const has = !!next && (next.value.flags & FRONTEND_MAGLEV) !== 0;
    if (!maglev || !(had || has)) return;
    if (!has) {
      maglev.want(serviceId, undefined);
      return;
    }
    const [old, now] = [slotCounts(had ? before.slots : []), slotCounts(next.slots)];
    if (old.size === now.size && now.entries().every(([id, count]) => old.get(id) === count)) return;
    maglev.want(
      serviceId,
      [...now].flatMap(([id, weight]) => {
        const name = this.#backendKeys.get(id);
        return name === undefined ? [] : [{ name, id, weight }];
      }),
    );
  }

  #isLive({ service_id, slot }: SlotKey): boolean {
    return slot < (this.#live.get(service_id)?.slots.length ?? 0);
  }

  #reference(id: number, by: 1 | -1): void {
    if (id === 0) return;
    const count = (this.#references.get(id) ?? 0) + by;
    if (count > 0) this.#references.set(id, count);
    else {
      this.#references.delete(id);
      this.#staleBackends.add(id);
    }
  }

  /** Removes rows that allow what is not allowed any more: this does not wait for readers. */
  #revoke(): void {
    const [members, ranges] = [this.#staleMembers, this.#staleRanges];
    this.#staleMembers = [];
    this.#staleRanges = [];
    try {
      for (const key of members)
        if (!this.#live.get(key.service_id)?.members.has(key.backend_id)) this.#maps.members.delete(key);
      for (const key of ranges)
        if (!this.#live.get(key.service_id)?.ranges.has(prefixOfSourceRange(key)))
          this.#maps.sourceRanges.delete(key);
    } catch (error) {
      this.#staleMembers.push(...members);
      this.#staleRanges.push(...ranges);
      this.#onError(error instanceof Error ? error : new Error(String(error)));
    }
  }

  /** Of a frontend that could not be written whole: those rows that are there and may stay, others are stale. */
  #readMembers(value: FrontendValue, slots: readonly number[], tried: Programmed): Set<number> {
    const { service_id } = value;
    const there = new Set(value.flags & FRONTEND_AFFINITY ? slots : []);
    for (const backend_id of tried.members)
      if (!there.has(backend_id)) this.#staleMembers.push({ service_id, backend_id });
    for (const backend_id of there)
      if (!this.#maps.members.get({ service_id, backend_id })) there.delete(backend_id);
    return there;
  }

  #readSlots(value: FrontendValue): number[] {
    return Array.from(
      { length: value.count },
      (_, slot) => this.#maps.slots.get({ service_id: value.service_id, slot })?.backend_id ?? 0,
    );
  }

  #adopt(): void {
    for (const [{ backend_id: id }, value] of this.#maps.backends.entries()) {
      this.#backendIds.adopt(id);
      this.#present.add(id);
      this.#staleBackends.add(id);
      const key = keyOfBackend(value);
      if (key === undefined || this.#backends.has(key)) continue;
      this.#backends.set(key, id);
      this.#backendKeys.set(id, key);
    }
    const slots = new Map<number, Map<number, number>>();
    for (const [{ service_id, slot }, { backend_id }] of this.#maps.slots.entries()) {
      let rows = slots.get(service_id);
      if (!rows) {
        rows = new Map();
        slots.set(service_id, rows);
      }
      rows.set(slot, backend_id);
    }
    const members = new Map<number, Set<number>>();
    for (const [{ service_id, backend_id }] of this.#maps.members.entries()) {
      const ids = members.get(service_id);
      if (ids) ids.add(backend_id);
      else members.set(service_id, new Set([backend_id]));
    }
    const ranges = new Map<number, Set<string>>();
    for (const [key] of this.#maps.sourceRanges.entries()) {
      const found = ranges.get(key.service_id);
      if (found) found.add(prefixOfSourceRange(key));
      else ranges.set(key.service_id, new Set([prefixOfSourceRange(key)]));
    }
    for (const [key, value] of this.#maps.frontends.entries()) {
      this.#serviceIds.adopt(value.service_id);
      const rows = slots.get(value.service_id);
      const ids = Array.from({ length: value.count }, (_, slot) => rows?.get(slot) ?? 0);
      // A slot whose backend row is gone is as good as missing: it will be written again.
      const known = ids.map(id => (this.#backendKeys.has(id) ? id : 0));
      this.#replace(addressOfKey(key) ?? `unknown/${value.service_id}`, {
        key,
        value,
        slots: known,
        members: members.get(value.service_id) ?? new Set(),
        ranges: ranges.get(value.service_id) ?? new Set(),
      });
      members.delete(value.service_id);
      ranges.delete(value.service_id);
    }
    for (const [service_id, ids] of members)
      for (const backend_id of ids) this.#staleMembers.push({ service_id, backend_id });
    for (const [service_id, found] of ranges)
      for (const range of found) this.#staleRanges.push(sourceRangeKey(service_id, range));
    for (const [service_id, rows] of slots) {
      this.#serviceIds.adopt(service_id);
      if (!this.#live.has(service_id)) this.#staleServices.add(service_id);
      for (const slot of rows.keys())
        if (!this.#isLive({ service_id, slot })) this.#staleSlots.push({ service_id, slot });
    }
    for (const service of this.#maps.maglev?.services() ?? [])
      if (!((this.#live.get(service)?.value.flags ?? 0) & FRONTEND_MAGLEV))
        this.#maps.maglev?.want(service, undefined);
    this.#scheduleSweep();
  }

  #scheduleSweep(): void {
    const stale =
      this.#staleSlots.length +
      this.#staleBackends.size +
      this.#staleServices.size +
      this.#staleMembers.length +
      this.#staleRanges.length;
    if (this.#timer || !stale) return;
    this.#timer = setTimeout(() => this.sweep(), this.#grace).unref();
  }
}

/** Backends that a frontend's slots are searched for one by one. */
const FEW = 32;

/** Who is in one of two lists only, each of which has nobody twice. Lists that begin and end alike cost little. */
function differenceOf(
  before: readonly Backend[],
  after: readonly Backend[],
): { readonly removed: readonly Backend[]; readonly added: readonly Backend[] } {
  const same = (a: Backend, b: Backend): boolean => a === b || a.key === b.key;
  let start = 0;
  const shorter = Math.min(before.length, after.length);
  while (start < shorter && same(before[start]!, after[start]!)) start++;
  let end = 0;
  while (end < shorter - start && same(before[before.length - 1 - end]!, after[after.length - 1 - end]!))
    end++;
  const was = before.slice(start, before.length - end);
  const is = after.slice(start, after.length - end);
  const wasKeys = new Set(was.map(each => each.key));
  const isKeys = new Set(is.map(each => each.key));
  return {
    removed: was.filter(each => !isKeys.has(each.key)),
    added: is.filter(each => !wasKeys.has(each.key)),
  };
}

/** How many slots each backend has. */
function slotCounts(slots: readonly number[]): Map<number, number> {
  const counts = new Map<number, number>();
  for (const id of slots) counts.set(id, (counts.get(id) ?? 0) + 1);
  return counts;
}

/** Writes rows in one batch; where that fails, one by one, to learn whose row it was. */
function write<K, V>(
  map: RowMap<K, V>,
  writes: readonly Write<K, V>[],
  failed: Map<string, Error>,
  done: (key: K) => void = () => {},
): void {
  if (writes.length === 0) return;
  try {
    map.updateBatch(writes.map(([, key, value]) => [key, value] as const));
    for (const [, key] of writes) done(key);
    return;
  } catch {
    // One by one below, each with an error of its own.
  }
  for (const [plan, key, value] of writes)
    try {
      map.set(key, value);
      done(key);
    } catch (error) {
      failed.set(plan.address, error instanceof Error ? error : new Error(String(error)));
    }
}

function memberWrites(plan: Plan): Write<MemberKey, MemberValue>[] {
  const { members, value } = plan.after;
  const writes: Write<MemberKey, MemberValue>[] = [];
  for (const backend_id of members)
    if (!plan.before?.members.has(backend_id))
      writes.push([plan, { service_id: value.service_id, backend_id }, { pad: 0 }]);
  return writes;
}

function rangeWrites(plan: Plan): Write<SourceRangeKey, SourceRangeValue>[] {
  const { ranges, value } = plan.after;
  const writes: Write<SourceRangeKey, SourceRangeValue>[] = [];
  for (const range of ranges)
    if (!plan.before?.ranges.has(range))
      writes.push([plan, sourceRangeKey(value.service_id, range), { pad: 0 }]);
  return writes;
}

function slotWrites(plan: Plan): Write<SlotKey, SlotValue>[] {
  const { slots, value } = plan.after;
  const old = plan.before?.slots ?? [];
  const writes: Write<SlotKey, SlotValue>[] = [];
  for (let slot = 0; slot < slots.length; slot++)
    if (slots[slot] !== old[slot])
      writes.push([plan, { service_id: value.service_id, slot }, { backend_id: slots[slot]! }]);
  return writes;
}

function frontendWrites(plan: Plan): Write<FrontendKey, FrontendValue>[] {
  const { key, value } = plan.after;
  const old = plan.before?.value;
  const same =
    old &&
    old.service_id === value.service_id &&
    old.count === value.count &&
    old.flags === value.flags &&
    old.affinity_timeout === value.affinity_timeout;
  return same ? [] : [[plan, key, value]];
}

function backendValue(backend: Backend): BackendValue {
  return {
    addr: parse(backend.addr),
    port: backend.port,
    proto: PROTOCOLS[backend.protocol],
    flags: 0,
    cluster_id: 0,
    pad: 0,
  };
}

/** Key of the frontends table this target serves. */
export const frontendTable = { name: 'frontends', keyOf: (row: Frontend) => frontendAddress(row) } as const;
