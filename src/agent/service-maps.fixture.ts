import assert from 'node:assert/strict';
import { format } from '../datapath/address.ts';
import {
  addressOfKey,
  type BackendKey,
  type BackendValue,
  type FrontendKey,
  type FrontendValue,
  type MemberKey,
  type MemberValue,
  type RowMap,
  type ServiceMaps,
  type SlotKey,
  type SlotValue,
  type SourceRangeKey,
  type SourceRangeValue,
} from './service-maps.ts';

/** A map in memory. `onWrite` sees the state after every single write, as a reader in the kernel could. */
export class MemoryMap<K, V> implements RowMap<K, V> {
  readonly rows = new Map<string, [K, V]>();
  writes = 0;
  limit = Number.POSITIVE_INFINITY;
  onWrite: () => void = () => {};

  get(key: K): V | undefined {
    return this.rows.get(nameOf(key))?.[1];
  }

  set(key: K, value: V): void {
    const name = nameOf(key);
    if (!this.rows.has(name) && this.rows.size >= this.limit) throw new Error('map is full');
    this.rows.set(name, [key, value]);
    this.writes++;
    this.onWrite();
  }

  delete(key: K): boolean {
    const found = this.rows.delete(nameOf(key));
    this.onWrite();
    return found;
  }

  entries(): [K, V][] {
    return [...this.rows.values()];
  }

  updateBatch(rows: readonly (readonly [K, V])[]): void {
    for (const [key, value] of rows) this.set(key, value);
  }
}

export class MemoryServiceMaps implements ServiceMaps {
  readonly frontends = new MemoryMap<FrontendKey, FrontendValue>();
  readonly slots = new MemoryMap<SlotKey, SlotValue>();
  readonly backends = new MemoryMap<BackendKey, BackendValue>();
  readonly members = new MemoryMap<MemberKey, MemberValue>();
  readonly sourceRanges = new MemoryMap<SourceRangeKey, SourceRangeValue>();

  onWrite(listener: () => void): void {
    for (const map of [this.frontends, this.slots, this.backends, this.members, this.sourceRanges])
      map.onWrite = listener;
  }
}

/** Where a reader in the kernel could be sent, per frontend; fails if a valid slot leads nowhere. */
export function interpret(maps: MemoryServiceMaps): Map<string, string[]> {
  const out = new Map<string, string[]>();
  for (const [key, value] of maps.frontends.entries()) {
    const targets: string[] = [];
    for (let slot = 0; slot < value.count; slot++) {
      const id = maps.slots.get({ service_id: value.service_id, slot })?.backend_id;
      assert.ok(id, `slot ${slot} of ${value.count} is missing`);
      const found = maps.backends.get({ backend_id: id });
      assert.ok(found, `backend ${id} is missing`);
      targets.push(`${format(found.addr)}:${found.port}`);
    }
    out.set(addressOfKey(key) ?? 'unknown', targets.sort());
  }
  return out;
}

function nameOf(key: unknown): string {
  return JSON.stringify(key, (_, value: unknown) => (value instanceof Uint8Array ? [...value] : value));
}
