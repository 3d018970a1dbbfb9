import { parse } from '../datapath/address.ts';
import type { Backend } from '../loadbalancer/backend.ts';
import type { BackendList } from '../loadbalancer/backend-list.ts';
import type { Frontend } from '../loadbalancer/frontend.ts';
import { IdPool } from '../loadbalancer/id-pool.ts';
import { assignSlots } from '../loadbalancer/slots.ts';
import type { Operation, Target } from '../table/reconciler.ts';
import { turnIsOver } from '../table/turn.ts';
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
  /** Backend id per slot; 0 where the slot's row is missing or unknown. There may be thousands: edited in place. */
  readonly slots: number[];
  /** Backend ids that clients may be sent to again; empty without session affinity. Edited in place. */
  readonly members: Set<number>;
  /** Prefixes of the clients that may connect; of no meaning without their flag. */
  readonly ranges: ReadonlySet<string>;
  /** Its backends, where each has one slot and there are no others; undefined where that is not known. */
  readonly backends?: BackendList | undefined;
}

/** A slot that holds another backend than before; 0: none. */
interface SlotEdit {
  readonly slot: number;
  readonly was: number;
  readonly is: number;
}

/** What a change of a frontend is to the rows below it. */
interface Edits {
  /** Ascending where slots are added. */
  readonly slots: readonly SlotEdit[];
  /** Number of slots afterwards. */
  readonly count: number;
  /** Backend ids that become members, and that cease to be. */
  readonly granted: readonly number[];
  readonly revoked: readonly number[];
}

interface Plan {
  readonly address: string;
  readonly row: Frontend;
  readonly before: Programmed | undefined;
  readonly key: FrontendKey;
  readonly value: FrontendValue;
  readonly edits: Edits;
  readonly ranges: ReadonlySet<string>;
  /** Those of the row's backends whose rows may be missing. */
  readonly added: readonly Backend[];
}

/** A backend that the map has or is to have. */
interface BackendRow {
  readonly id: number;
  /** `backendKey`; undefined where what the map holds is none of ours, or is there a second time. */
  readonly key: string | undefined;
  /** How many slots name it. */
  references: number;
  /** The row is in the map. */
  present: boolean;
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
  readonly #serviceIds = new IdPool(id => this.#live.has(id) || this.#staleServices.has(id));
  readonly #backendIds = new IdPool(id => this.#rows.has(id));
  /** All that is known of a backend is here: of many maps that grow together, all would be made anew at once. */
  readonly #rows = new Map<number, BackendRow>();
  readonly #rowsByKey = new Map<string, BackendRow>();
  #presentCount = 0;
  #slotCount = 0;
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
    return (this.#rowsByKey.get(key)?.references ?? 0) > 0;
  }

  /** Numeric id of a frontend, for status pages. */
  serviceId(address: string): number | undefined {
    return this.#programmed.get(address)?.value.service_id;
  }

  /** Rows of the maps. */
  get counts(): { readonly frontends: number; readonly slots: number; readonly backends: number } {
    return { frontends: this.#programmed.size, slots: this.#slotCount, backends: this.#presentCount };
  }

  apply(batch: readonly Operation<Frontend>[]): ReadonlyMap<string, Error> {
    const failed = new Map<string, Error>();
    const plans = batch.flatMap(({ key, row }) => (row ? [this.#plan(key, row)] : []));

    write(this.#maps.backends, this.#backendWrites(plans), failed, ({ backend_id }) => {
      const row = this.#rows.get(backend_id)!;
      row.present = true;
      this.#presentCount++;
    });
    for (const plan of plans) {
      const missing = plan.added.find(each => !this.#rowsByKey.get(each.key)!.present);
      if (missing !== undefined && !failed.has(plan.address))
        failed.set(plan.address, new Error(`backend ${missing.key} could not be written`));
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

  /**
   * Removes rows that nothing names any more, until `isOver` says that others are to have their turn. Runs by itself
   * after the grace time, and again after another one for the rest: of a large service that goes these are many.
   */
  sweep(isOver: () => boolean = () => false): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#revoke();
    try {
      const gone = this.#sweepSlots(isOver) ? this.#sweepBackends(isOver) : 0;
      if (gone) this.#onBackendsGone();
    } catch (error) {
      this.#onError(error instanceof Error ? error : new Error(String(error)));
      return;
    }
    this.#scheduleSweep();
  }

  /** Whether all are done. */
  #sweepSlots(isOver: () => boolean): boolean {
    for (let done = 0; this.#staleSlots.length; done++) {
      if (done % PIECE === PIECE - 1 && isOver()) return false;
      const key = this.#staleSlots.at(-1)!;
      if (!this.#isLive(key)) this.#maps.slots.delete(key);
      this.#staleSlots.pop();
    }
    this.#staleServices.clear();
    return true;
  }

  /** Returns how many backends no service has any more. */
  #sweepBackends(isOver: () => boolean): number {
    let [done, gone] = [0, 0];
    for (const id of this.#staleBackends) {
      if (++done % PIECE === 0 && isOver()) break;
      const row = this.#rows.get(id);
      if (row?.references === 0) {
        this.#maps.backends.delete({ backend_id: id });
        this.#rows.delete(id);
        if (row.key !== undefined) this.#rowsByKey.delete(row.key);
        if (row.present) this.#presentCount--;
        gone++;
      }
      this.#staleBackends.delete(id);
    }
    return gone;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  #plan(address: string, row: Frontend): Plan {
    const before = this.#programmed.get(address);
    const { edits, added } = this.#exchange(before, row) ?? this.#assign(before, row);
    const value: FrontendValue = {
      service_id: before?.value.service_id ?? this.#serviceIds.allocate(),
      count: edits.count,
      affinity_timeout: row.affinityTimeout,
      flags: frontendFlags(row),
    };
    const key = before?.key ?? frontendKey(row);
    return { address, row, before, key, value, edits, added, ranges: new Set(row.sourceRanges) };
  }

  #assign(before: Programmed | undefined, row: Frontend): Pick<Plan, 'edits' | 'added'> {
    const added = [...row.backends];
    const wanted = added.map(each => this.#idOf(each));
    const chosen = row.partial && before ? new Set(wanted) : undefined;
    row.weights?.forEach((weight, at) => {
      for (let more = 1; more < weight; more++) wanted.push(wanted[at]!);
    });
    if (chosen) for (const id of before?.slots ?? []) if (id !== 0 && !chosen.has(id)) wanted.push(id);
    const slots = assignSlots(before?.slots ?? [], wanted);
    const members = new Set(row.affinityTimeout > 0 ? slots : []);
    return { edits: editsBetween(before, { slots, members }), added };
  }

  /** Where a few of many backends are others: what stays is not looked at one by one. */
  #exchange(before: Programmed | undefined, row: Frontend): Pick<Plan, 'edits' | 'added'> | undefined {
    if (!before?.backends || row.weights || row.partial) return undefined;
    const affinity = row.affinityTimeout > 0;
    if (affinity !== before.value.affinity_timeout > 0) return undefined;
    const { removed, added } = row.backends.since(before.backends);
    if (removed.length + added.length > FEW) return undefined;
    const granted = added.map(each => this.#idOf(each));
    const revoked = removed.map(({ key }) => this.#rowsByKey.get(key)?.id ?? 0);
    const freed = revoked.map(id => before.slots.indexOf(id));
    if (freed.includes(-1)) return undefined;
    const after = new Map<number, number>();
    let count = before.slots.length;
    for (const [at, id] of granted.entries()) after.set(freed[at] ?? count++, id);
    // The last slots move into holes that are left.
    for (const hole of freed.slice(granted.length).sort((a, b) => b - a)) {
      const last = --count;
      if (hole < last) after.set(hole, after.get(last) ?? before.slots[last]!);
      after.set(last, 0);
    }
    const slots = Array.from(after, ([slot, is]) => ({ slot, was: before.slots[slot] ?? 0, is }));
    return {
      edits: { slots, count, granted: affinity ? granted : [], revoked: affinity ? revoked : [] },
      added,
    };
  }

  #idOf(backend: Backend): number {
    return (this.#rowsByKey.get(backend.key) ?? this.#addRow(this.#backendIds.allocate(), backend.key)).id;
  }

  #addRow(id: number, key: string | undefined): BackendRow {
    const row = { id, key, references: 0, present: false };
    this.#rows.set(id, row);
    if (key !== undefined) this.#rowsByKey.set(key, row);
    return row;
  }

  #backendWrites(plans: readonly Plan[]): Write<BackendKey, BackendValue>[] {
    const writes: Write<BackendKey, BackendValue>[] = [];
    const pending = new Set<number>();
    for (const plan of plans)
      for (const backend of plan.added) {
        const { id, present } = this.#rowsByKey.get(backend.key)!;
        if (present || pending.has(id)) continue;
        pending.add(id);
        writes.push([plan, { backend_id: id }, backendValue(backend)]);
      }
    return writes;
  }

  #commit(plan: Plan, failed: boolean): void {
    const { address, row, before, key, value, edits, ranges } = plan;
    if (failed) {
      // What is in the maps now is between the two: read it again, so that the retry starts from the truth.
      const present = this.#maps.frontends.get(key);
      for (const { is } of edits.slots) if (is !== 0) this.#staleBackends.add(is);
      if (present) {
        const slots = this.#readSlots(present);
        const members = this.#readMembers(present, slots, edits.granted);
        // Written again by the retry, which is what narrows them.
        const both = new Set([...(before?.ranges ?? []), ...ranges]);
        this.#replace(address, { key, value: present, slots, members, ranges: both });
      } else if (!before) {
        const { service_id } = value;
        this.#staleServices.add(service_id);
        for (const backend_id of edits.granted) this.#staleMembers.push({ service_id, backend_id });
        for (const range of ranges) this.#staleRanges.push(sourceRangeKey(service_id, range));
        for (const { slot } of edits.slots) this.#staleSlots.push({ service_id, slot });
      }
      return;
    }
    const { slots, members } = before ?? { slots: [], members: new Set<number>() };
    for (const { slot, is } of edits.slots) if (slot < edits.count) slots[slot] = is;
    if (slots.length !== edits.count) slots.length = edits.count;
    for (const id of edits.granted) members.add(id);
    for (const id of edits.revoked) members.delete(id);
    const backends = row.weights || row.partial ? undefined : row.backends;
    this.#replace(address, { key, value, slots, members, ranges, backends }, edits);
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

  /** `edits`: what is between the two, if the slots and members of the one before have become the next one's. */
  #replace(address: string, next: Programmed | undefined, edits?: Edits): void {
    const before = this.#programmed.get(address);
    const { slots, count, revoked } = edits ?? editsBetween(before, next);
    const serviceId = (next ?? before)?.value.service_id ?? 0;
    this.#slotCount += count - (before?.value.count ?? 0);
    for (const { slot, was, is } of slots) {
      this.#reference(was, -1);
      this.#reference(is, +1);
      if (slot >= count) this.#staleSlots.push({ service_id: serviceId, slot });
    }
    for (const id of revoked) this.#staleMembers.push({ service_id: serviceId, backend_id: id });
    for (const range of before?.ranges ?? [])
      if (!next?.ranges.has(range)) this.#staleRanges.push(sourceRangeKey(serviceId, range));
    this.#keepMaglev(serviceId, before, next, slots);
    if (next) {
      this.#programmed.set(address, next);
      this.#live.set(serviceId, next);
    } else {
      this.#programmed.delete(address);
      this.#live.delete(serviceId);
    }
  }

  /** Asks for a new table where the backends are others; until it is there, or without one, any slot will do. */
  #keepMaglev(
    serviceId: number,
    before: Programmed | undefined,
    next: Programmed | undefined,
    edits: readonly SlotEdit[],
  ): void {
    const { maglev } = this.#maps;
    const had = !!before && (before.value.flags & FRONTEND_MAGLEV) !== 0;
    const has = !!next && (next.value.flags & FRONTEND_MAGLEV) !== 0;
    if (!maglev || !(had || has)) return;
    if (!has) {
      maglev.want(serviceId, undefined);
      return;
    }
    if (had && !changesCounts(edits)) return;
    maglev.want(
      serviceId,
      [...slotCounts(next.slots)].flatMap(([id, weight]) => {
        const name = this.#rows.get(id)?.key;
        return name === undefined ? [] : [{ name, id, weight }];
      }),
    );
  }

  #isLive({ service_id, slot }: SlotKey): boolean {
    return slot < (this.#live.get(service_id)?.slots.length ?? 0);
  }

  #reference(id: number, by: 1 | -1): void {
    if (id === 0) return;
    const row = this.#rows.get(id);
    if (!row) return;
    row.references += by;
    if (row.references === 0) this.#staleBackends.add(id);
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
  #readMembers(value: FrontendValue, slots: readonly number[], tried: readonly number[]): Set<number> {
    const { service_id } = value;
    const there = new Set(value.flags & FRONTEND_AFFINITY ? slots : []);
    for (const backend_id of tried)
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
      this.#staleBackends.add(id);
      const key = keyOfBackend(value);
      this.#addRow(id, key !== undefined && this.#rowsByKey.has(key) ? undefined : key).present = true;
      this.#presentCount++;
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
      const known = ids.map(id => (this.#rows.get(id)?.key === undefined ? 0 : id));
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
    this.#timer = setTimeout(() => this.sweep(turnIsOver), this.#grace).unref();
  }
}

/** Rows that are removed before the clock is asked. */
const PIECE = 64;

/** Backends that a frontend's slots are searched for one by one. */
const FEW = 32;

/** What is to be done to the one for it to be the other. */
function editsBetween(
  before: Pick<Programmed, 'slots' | 'members'> | undefined,
  next: Pick<Programmed, 'slots' | 'members'> | undefined,
): Edits {
  const [old, now] = [before?.slots ?? [], next?.slots ?? []];
  const slots: SlotEdit[] = [];
  for (let slot = 0; slot < Math.max(old.length, now.length); slot++) {
    const [was, is] = [old[slot] ?? 0, now[slot] ?? 0];
    if (was !== is || slot >= now.length) slots.push({ slot, was, is });
  }
  const none: ReadonlySet<number> = new Set();
  const [were, are] = [before?.members ?? none, next?.members ?? none];
  const granted = [...are].filter(id => !were.has(id));
  const revoked = [...were].filter(id => !are.has(id));
  return { slots, count: now.length, granted, revoked };
}

/** Whether a backend has more slots, or fewer, than before. */
function changesCounts(edits: readonly SlotEdit[]): boolean {
  const more = new Map<number, number>();
  const add = (id: number, by: number): void => {
    if (id !== 0) more.set(id, (more.get(id) ?? 0) + by);
  };
  for (const { was, is } of edits) {
    add(was, -1);
    add(is, +1);
  }
  return more.values().some(each => each !== 0);
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
  const { service_id } = plan.value;
  return plan.edits.granted.map(backend_id => [plan, { service_id, backend_id }, { pad: 0 }]);
}

function rangeWrites(plan: Plan): Write<SourceRangeKey, SourceRangeValue>[] {
  const added = [...plan.ranges].filter(range => !plan.before?.ranges.has(range));
  return added.map(range => [plan, sourceRangeKey(plan.value.service_id, range), { pad: 0 }]);
}

function slotWrites(plan: Plan): Write<SlotKey, SlotValue>[] {
  const { service_id } = plan.value;
  const { slots, count } = plan.edits;
  const written = slots.filter(({ slot }) => slot < count);
  return written.map(({ slot, is }) => [plan, { service_id, slot }, { backend_id: is }]);
}

function frontendWrites(plan: Plan): Write<FrontendKey, FrontendValue>[] {
  const { key, value } = plan;
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
