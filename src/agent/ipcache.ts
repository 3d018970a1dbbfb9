import type { EndpointObjectRow } from '../api/crds/cilium-endpoint.ts';
import { reserved } from '../api/identity-number.ts';
import { hostPrefix, isHostPrefix } from '../api/prefix.ts';
import { formatPrefix, parse, parsePrefix } from '../datapath/address.ts';
import { sharedText, text, uint32 } from '../table/columns.ts';
import { derive, input } from '../table/derive.ts';
import { Interned } from '../table/interned.ts';
import { packed } from '../table/packed-rows.ts';
import type { ReadonlyTable } from '../table/table.ts';
import { type ClusterNode, prefixesOf } from './cluster-nodes.ts';
import { addressesOf, type Endpoint, IDENTITY_INIT } from './endpoint.ts';
import { type ForeignClaims, touchedBy } from './foreign-claims.ts';
import type { PodRange } from './pod-ranges.ts';

/** An address of another cluster's pod, as that cluster exports it. */
export interface RemoteAddress {
  readonly cluster: string;
  /** An address or a prefix. */
  readonly prefix: string;
  readonly identity: number;
  /** Node it is on, where its tunnel ends; '' when unknown. */
  readonly nodeIp: string;
}

/** Who a prefix is, and behind which node. */
export interface IpcacheRow {
  /** Canonical, '10.1.2.3/32'. */
  readonly prefix: string;
  readonly identity: number;
  /** Node address; '' where it is not behind a tunnel. */
  readonly tunnel: string;
  /** What said so, for people: `node`, `endpoint`, `pod cidr`… */
  readonly source: string;
}

export interface IpcacheInputs {
  /** With the index `prefix`. */
  readonly nodes: ReadonlyTable<ClusterNode>;
  /** Endpoints of this node, with the index `address`. */
  readonly local: ReadonlyTable<Endpoint>;
  /** CiliumEndpoints of the own cluster, with the index `address`. */
  readonly cluster: ReadonlyTable<EndpointObjectRow>;
  /** With the indexes `prefix`, of canonical prefixes, and `near`. */
  readonly remote: ReadonlyTable<RemoteAddress>;
  /** Judges what is in `remote`. */
  readonly claims: ForeignClaims;
  /** Pod ranges of all clusters, by which it is judged. */
  readonly ranges: ReadonlyTable<PodRange>;
}

/**
 * The ipcache: one row per prefix. The nearest source wins: this node's endpoints, nodes, the own
 * cluster's endpoints, other clusters', as far as the addresses
 * are theirs to name. A node's pod CIDR is the way to its pods that are not known one by one.
 */
export function deriveIpcache(inputs: IpcacheInputs): ReadonlyTable<IpcacheRow> {
  const { nodes, local, cluster, remote, ranges } = inputs;
  return derive<IpcacheRow>({
    name: 'ipcache',
    keyOf: row => row.prefix,
    rowPerGroup: true,
    equal: (a, b) => a.identity === b.identity && a.tunnel === b.tunnel && a.source === b.source,
    rows: packed<IpcacheRow>({ prefix: text, identity: uint32, tunnel: sharedText, source: sharedText }),
    inputs: [
      input(nodes, prefixesOf),
      input(local, row => addressesOf(row).map(each => hostPrefix(each.address))),
      input(cluster, row => row.addresses.map(hostPrefix)),
      input(remote, row => [row.prefix]),
      input(ranges, row => touchedBy(row, remote)),
    ],
    compute(prefix) {
      const found = resolve(prefix, inputs);
      if (!found) return [];
      // Field by field: the copy of a rest would be twice as large, and there are many.
      const { identity, tunnel, source } = found;
      return [{ prefix, identity, tunnel, source }];
    },
  });
}

function resolve(prefix: string, inputs: IpcacheInputs): Omit<IpcacheRow, 'prefix'> | undefined {
  const remote = inputs.claims.believed(prefix, inputs.remote.by('prefix', prefix));
  const host = isHostPrefix(prefix) ? prefix.slice(0, prefix.lastIndexOf('/')) : undefined;
  const node = nearest(inputs.nodes.by('prefix', prefix));
  if (host !== undefined) {
    const endpoint = first(inputs.local.by('address', host));
    if (endpoint && endpoint.state !== 'deleting')
      return { identity: endpoint.identity ?? IDENTITY_INIT, tunnel: '', source: 'endpoint' };
    if (node && (node.addresses.includes(host) || node.internalAddresses.includes(host)))
      return {
        identity: node.local ? reserved.host : reserved.remoteNode,
        // Node addresses are reached directly; the internal one is an address of the pod network.
        tunnel: node.local || !node.internalAddresses.includes(host) ? '' : node.address,
        source: 'node',
      };
    for (const each of inputs.cluster.by('address', host)) {
      const on = first(inputs.nodes.by('address', each.nodeIp));
      // Only this node knows what it really has: its own objects may be left over.
      if (on?.local || each.nodeIp === '') continue;
      return {
        identity: each.identity || reserved.unmanaged,
        tunnel: each.nodeIp,
        source: 'cilium endpoint',
      };
    }
  }
  if (remote)
    return {
      identity: remote.identity || reserved.unmanaged,
      tunnel: remote.nodeIp,
      source: sourceOf(remote.cluster),
    };
  if (node) return { identity: reserved.unmanaged, tunnel: node.address, source: POD_CIDR };
  return undefined;
}

const POD_CIDR = 'pod cidr';

/** One text for all rows of a cluster, of which there may be tens of thousands. */
function sourceOf(cluster: string): string {
  let text = sources.get(cluster);
  if (text === undefined) {
    text = `cluster ${cluster}`;
    sources.set(cluster, text);
  }
  return text;
}

/** By cluster: 511 at most. */
const sources = new Map<string, string>();

/** Of nodes that claim one prefix, which is a mistake of whoever chose the ranges: this one, then the own cluster's. */
function nearest(nodes: Iterable<ClusterNode>): ClusterNode | undefined {
  const all = [...nodes];
  return all.find(each => each.local) ?? all.find(each => each.own) ?? all[0];
}

function first<T>(rows: Iterable<T>): T | undefined {
  for (const row of rows) return row;
  return undefined;
}

/** The row of bpf/types.h. */
export interface IpcacheMapRow {
  readonly key: {
    readonly prefixlen: number;
    readonly cluster_id: number;
    readonly pad: number;
    readonly addr: Uint8Array;
  };
  readonly value: {
    readonly identity: number;
    readonly tunnel: Uint8Array;
    readonly encrypt_key: number;
    readonly flags: number;
    readonly pad: number;
  };
}

const KEY_BITS = 32;
const IPCACHE_POD_RANGE = 1;
const noTunnel = new Uint8Array(16);
/** Addresses of a node's pods come one after the other. */
const tunnels = new Interned<Uint8Array>();

export function ipcacheKey(prefix: string): IpcacheMapRow['key'] {
  const { addr, length } = parsePrefix(prefix);
  return { prefixlen: KEY_BITS + length, cluster_id: 0, pad: 0, addr };
}

export function ipcacheMapRow(row: IpcacheRow): IpcacheMapRow {
  return {
    key: ipcacheKey(row.prefix),
    value: {
      identity: row.identity,
      tunnel: row.tunnel === '' ? noTunnel : tunnels.of(row.tunnel, () => parse(row.tunnel)),
      encrypt_key: 0,
      flags: row.source === POD_CIDR ? IPCACHE_POD_RANGE : 0,
      pad: 0,
    },
  };
}

/** The prefix of a key found in the map. */
export function prefixOfKey(key: IpcacheMapRow['key']): string {
  return formatPrefix({ addr: key.addr, length: key.prefixlen - KEY_BITS });
}
