import type { Protocol } from '../api/service.ts';
import { format, formatPrefix, parse, parsePrefix } from '../datapath/address.ts';
import { type Frontend, type FrontendKind, hasInternalScope } from '../loadbalancer/frontend.ts';
import type { MaglevTables } from './maglev-tables.ts';

/** The rows of bpf/types.h, field by field. Ports are plain numbers here. */
export interface FrontendKey {
  readonly addr: Uint8Array;
  readonly port: number;
  readonly proto: number;
  readonly scope: number;
}
export interface FrontendValue {
  readonly service_id: number;
  readonly count: number;
  readonly affinity_timeout: number;
  readonly flags: number;
}
export interface SlotKey {
  readonly service_id: number;
  readonly slot: number;
}
export interface SlotValue {
  readonly backend_id: number;
}
export interface BackendKey {
  readonly backend_id: number;
}
export interface BackendValue {
  readonly addr: Uint8Array;
  readonly port: number;
  readonly proto: number;
  readonly flags: number;
  readonly cluster_id: number;
  readonly pad: number;
}

/** Says that a service with session affinity has a backend at present. */
export interface MemberKey {
  readonly service_id: number;
  readonly backend_id: number;
}
export interface MemberValue {
  readonly pad: number;
}

/** A prefix whose addresses may connect to a service with source ranges. */
export interface SourceRangeKey {
  readonly prefixlen: number;
  readonly service_id: number;
  readonly addr: Uint8Array;
}
export interface SourceRangeValue {
  readonly pad: number;
}

/** What is needed of a BPF map. */
export interface RowMap<K, V> {
  get(key: K): V | undefined;
  set(key: K, value: V): void;
  delete(key: K): boolean;
  entries(): Iterable<[K, V]>;
  /** All or, on an exception, some: the caller then writes one by one. */
  updateBatch(rows: readonly (readonly [K, V])[]): void;
}

/** The maps that together are service load balancing. */
export interface ServiceMaps {
  readonly frontends: RowMap<FrontendKey, FrontendValue>;
  readonly slots: RowMap<SlotKey, SlotValue>;
  readonly backends: RowMap<BackendKey, BackendValue>;
  readonly members: RowMap<MemberKey, MemberValue>;
  readonly sourceRanges: RowMap<SourceRangeKey, SourceRangeValue>;
  /** Absent: every service balances at random. */
  readonly maglev?: Pick<MaglevTables, 'services' | 'want'>;
}

export const PROTOCOLS: Readonly<Record<Protocol, number>> = { TCP: 6, UDP: 17, SCTP: 132 };
const PROTOCOL_NAMES = new Map(Object.entries(PROTOCOLS).map(([name, number]) => [number, name as Protocol]));

export const FRONTEND_AFFINITY = 1;
const FRONTEND_NODEPORT = 2;
const FRONTEND_EXTERNAL = 4;
const FRONTEND_LOCAL = 8;
const FRONTEND_TWO_SCOPES = 16;
const FRONTEND_SOURCE_RANGES = 32;
export const FRONTEND_MAGLEV = 64;
const FRONTEND_DSR = 128;
const FRONTEND_SOURCE_RANGES_DENY = 256;
const kindFlags: Readonly<Record<FrontendKind, number>> = {
  ClusterIP: 0,
  NodePort: FRONTEND_NODEPORT,
  LoadBalancer: FRONTEND_EXTERNAL,
  ExternalIP: FRONTEND_EXTERNAL,
};
const SCOPES = { external: 0, internal: 1 } as const;

export function frontendKey(row: Pick<Frontend, 'addr' | 'port' | 'protocol' | 'scope'>): FrontendKey {
  return { addr: parse(row.addr), port: row.port, proto: PROTOCOLS[row.protocol], scope: SCOPES[row.scope] };
}

/** The text `frontendAddress` gives, of a key found in the map; undefined for a protocol we never write. */
export function addressOfKey(key: FrontendKey): string | undefined {
  const protocol = PROTOCOL_NAMES.get(key.proto);
  return (
    protocol && `${format(key.addr)}/${key.port}/${protocol}/${key.scope === 1 ? 'internal' : 'external'}`
  );
}

export function frontendFlags(row: Frontend): number {
  return (
    kindFlags[row.kind] |
    (row.affinityTimeout > 0 ? FRONTEND_AFFINITY : 0) |
    (row.local ? FRONTEND_LOCAL : 0) |
    (hasInternalScope(row) ? FRONTEND_TWO_SCOPES : 0) |
    (row.sourceRanges ? FRONTEND_SOURCE_RANGES : 0) |
    (row.sourceRangesDeny ? FRONTEND_SOURCE_RANGES_DENY : 0) |
    (row.dsr ? FRONTEND_DSR : 0) |
    (row.algorithm === 'maglev' ? FRONTEND_MAGLEV : 0)
  );
}

/** Bits of a source range's key before its prefix: the service. */
const RANGE_KEY_BITS = 32;

export function sourceRangeKey(service_id: number, prefix: string): SourceRangeKey {
  const { addr, length } = parsePrefix(prefix);
  return { prefixlen: RANGE_KEY_BITS + length, service_id, addr };
}

/** The prefix of a key found in the map. */
export function prefixOfSourceRange(key: SourceRangeKey): string {
  return formatPrefix({ addr: key.addr, length: key.prefixlen - RANGE_KEY_BITS });
}

/** The text `backendKey` gives, of a value found in the map. */
export function keyOfBackend(value: BackendValue): string | undefined {
  const protocol = PROTOCOL_NAMES.get(value.proto);
  return protocol && `${format(value.addr)}/${value.port}/${protocol}`;
}
