/**
 * EndpointSlices of other clusters' endpoints: services + what other clusters offer of them + the slices there are →
 * what is to be changed about slices.
 */
import { createHash } from 'node:crypto';
import { BlockList } from 'node:net';
import type * as z from 'zod';
import { parseServiceAnnotations } from '../api/annotations.ts';
import {
  type EndpointSlice,
  endpointSliceSchema,
  MANAGED_BY_LABEL,
  MESH_SLICES,
  SERVICE_NAME_LABEL,
  toEndpointSlice,
} from '../api/endpoint-slice.ts';
import { hostPrefix } from '../api/prefix.ts';
import { type Service, serviceKey } from '../api/service.ts';
import { DEAD_NODES_BY_CLUSTER, type DeadRemoteNode } from '../clustermesh/dead-nodes.ts';
import type { RemoteTables } from '../clustermesh/rows.ts';
import { pathOf, resources, typeOf } from '../kube/resource.ts';
import {
  REMOTE_BY_CLUSTER,
  REMOTE_BY_SERVICE,
  type RemoteService,
  remoteServiceKey,
} from '../loadbalancer/remote-service.ts';
import { type RemoteSlice, remoteSlices } from '../loadbalancer/remote-slices.ts';
import { derivedName } from '../mcsapi/derived-name.ts';
import { MCS_SERVICE_LABEL, SOURCE_CLUSTER_LABEL } from '../mcsapi/objects.ts';
import { derive, input } from '../table/derive.ts';
import type { ReadonlyTable } from '../table/table.ts';
import { type ObjectFix, objectFixTable } from './object-fixes.ts';
import { type PresentObject, presentMetadata, presentObject } from './present-object.ts';

/** A slice that this operator, or Cilium's, has made of another cluster's endpoints. */
export interface MeshSlice extends PresentObject {
  readonly slice: EndpointSlice;
}

export const meshSliceSchema = endpointSliceSchema.extend({ metadata: presentMetadata });

/** @returns undefined for a slice whose labels are not those that its name was made of: it is not one of these (any more) */
export function toMeshSlice(object: z.infer<typeof meshSliceSchema>): MeshSlice | undefined {
  const { labels, namespace, name } = object.metadata;
  const slice = toEndpointSlice(object);
  const service = slice.service.slice(namespace.length + 1);
  if (!name.startsWith(`${service}-${labels?.[SOURCE_CLUSTER_LABEL]}-`)) return undefined;
  return { ...presentObject(object.metadata, slice), slice };
}

/** Indexes of the table of mesh slices. */
export const MESH_SLICES_BY_GROUP = 'group';
export const MESH_SLICES_BY_SERVICE = 'service';
export const MESH_SLICES_BY_CLUSTER = 'cluster';

/** `cluster/namespace/service`: what one cluster offers of one service. */
const groupOf = ({ labels, slice }: MeshSlice): string =>
  `${labels[SOURCE_CLUSTER_LABEL] ?? ''}/${slice.service}`;

/** Key `namespace/name`. */
export const meshSliceTable = {
  name: 'mesh-slices',
  keyOf: (row: MeshSlice): string => `${row.namespace}/${row.name}`,
  indexes: {
    [MESH_SLICES_BY_GROUP]: (row: MeshSlice) => [groupOf(row)],
    [MESH_SLICES_BY_SERVICE]: (row: MeshSlice) => [row.slice.service],
    [MESH_SLICES_BY_CLUSTER]: (row: MeshSlice) => [row.labels[SOURCE_CLUSTER_LABEL] ?? ''],
  },
} as const;

/**
 * Other clusters' endpoints of a service are wanted as slices: it is global, and says so or is headless, so that DNS
 * has nothing else to answer from. Source: Cilium documentation, "EndpointSlice synchronization".
 */
export function wantsSlices(service: Service, which: SliceChoice): boolean {
  const { global, syncSlices } = parseServiceAnnotations(service.annotations);
  if (!global || service.type === 'ExternalName') return false;
  const isDerived = service.name === derivedName(service.namespace, service.labels[MCS_SERVICE_LABEL] ?? '');
  return isDerived
    ? which.derived && (service.headless || syncSlices !== false)
    : which.global && (syncSlices ?? service.headless);
}

/** Services that may want slices. */
export interface SliceChoice {
  /** Those that users have made global. */
  readonly global: boolean;
  /**
   * Those behind ServiceImports: each cluster has slices of all endpoints (KEP-1645), unless an annotation says no; of a
   * headless one DNS has nothing else.
   */
  readonly derived: boolean;
}

export interface SliceSyncTables {
  readonly services: ReadonlyTable<Service>;
  readonly present: ReadonlyTable<MeshSlice>;
  readonly remote: Pick<RemoteTables, 'services' | 'clusters' | 'pending'>;
  /** Nodes of other clusters that are dead, with the index {@link DEAD_NODES_BY_CLUSTER}. */
  readonly deadNodes: ReadonlyTable<DeadRemoteNode>;
  /** Nodes of this cluster. */
  readonly nodes: ReadonlyTable<OwnRanges>;
}

/** Pod ranges of a node of this cluster. */
export interface OwnRanges {
  readonly name: string;
  readonly podCidrs: readonly string[];
}

/**
 * The tables of this cluster must be synced. Slices of a cluster that has not been heard yet are not removed; endpoints of
 * one that is dead, or of a dead node, are not ready. Addresses of this cluster's own pods are no other's to offer. Work follows the service and cluster that change.
 */
export function deriveSliceFixes(
  { services, present, remote, deadNodes, nodes }: SliceSyncTables,
  which: SliceChoice,
): ReadonlyTable<ObjectFix> {
  const groupsOf = function* (cluster: string): Iterable<string> {
    for (const row of remote.services.by(REMOTE_BY_CLUSTER, cluster)) yield remoteServiceKey(row);
    for (const row of present.by(MESH_SLICES_BY_CLUSTER, cluster)) yield groupOf(row);
  };
  // Nodes change all the time, their ranges hardly ever.
  const ranges = derive<OwnRanges>({
    name: 'own-pod-ranges',
    keyOf: row => row.name,
    equal: (a, b) => a.podCidrs.join() === b.podCidrs.join(),
    inputs: [input(nodes, row => [row.name])],
    compute: name => {
      const node = nodes.get(name);
      return node ? [{ name, podCidrs: node.podCidrs }] : [];
    },
  });
  const isOwnPod = ownPodLookup(ranges);
  return derive<ObjectFix>({
    ...objectFixTable,
    name: 'mesh-slice-fixes',
    inputs: [
      input(services, function* (row) {
        const name = serviceKey(row);
        for (const each of remote.services.by(REMOTE_BY_SERVICE, name)) yield remoteServiceKey(each);
        for (const each of present.by(MESH_SLICES_BY_SERVICE, name)) yield groupOf(each);
      }),
      input(present, row => [groupOf(row)]),
      input(remote.services, row => [remoteServiceKey(row)]),
      input(remote.clusters, (row, { before, after }) =>
        before?.dead === after?.dead ? [] : groupsOf(row.cluster),
      ),
      input(deadNodes, row => groupsOf(row.cluster)),
      input(remote.pending, row => groupsOf(row.cluster)),
      input(ranges, () => remote.services.keys()),
    ],
    compute(group) {
      const cluster = group.slice(0, group.indexOf('/'));
      const service = services.get(group.slice(cluster.length + 1));
      const there = [...present.by(MESH_SLICES_BY_GROUP, group)];
      const offered = remote.services.get(group);
      const wanted = service && wantsSlices(service, which) ? service : undefined;
      if (wanted && !offered && remote.pending.has(cluster)) return [];
      if (!wanted || !offered) return there.map(removal);
      const isDead = remote.clusters.get(cluster)?.dead
        ? () => true
        : lookup([...deadNodes.by(DEAD_NODES_BY_CLUSTER, cluster)].flatMap(rangesOfNode));
      return sliceFixes(wanted, withoutOwn(offered, isOwnPod), there, isDead);
    },
  });
}

/** Tells addresses of this cluster's pods from others. */
function ownPodLookup(ranges: ReadonlyTable<OwnRanges>): (address: string) => boolean {
  let isKnown: ((address: string) => boolean) | undefined;
  ranges.subscribe(() => {
    isKnown = undefined;
  });
  return address => {
    isKnown ??= lookup([...ranges.values()].flatMap(({ podCidrs }) => podCidrs));
    return isKnown(address);
  };
}

/** Where the endpoints of a node are: pods, and those in its own network. */
const rangesOfNode = ({ addresses, podCidrs }: DeadRemoteNode): string[] => [
  ...addresses.map(hostPrefix),
  ...podCidrs,
];

/** Tells addresses that are in one of the prefixes from others. */
function lookup(prefixes: readonly string[]): (address: string) => boolean {
  const list = new BlockList();
  for (const prefix of prefixes) {
    const [first = '', length] = prefix.split('/');
    list.addSubnet(first, Number(length), familyOf(first));
  }
  return address => list.check(address, familyOf(address));
}

const familyOf = (address: string): 'ipv4' | 'ipv6' => (address.includes(':') ? 'ipv6' : 'ipv4');

function withoutOwn(offered: RemoteService, isOwnPod: (address: string) => boolean): RemoteService {
  const foreign = offered.backends.map(part =>
    Object.fromEntries(Object.entries(part).filter(([address]) => !isOwnPod(address))),
  );
  return { ...offered, backends: foreign };
}

/** What is to be changed about the slices of one service and cluster. */
export function sliceFixes(
  service: Service,
  offered: RemoteService,
  present: readonly MeshSlice[],
  isDead: (address: string) => boolean,
): ObjectFix[] {
  const open = new Map(present.map(each => [each.name, each]));
  const { cluster } = offered;
  const wanted = remoteSlices(
    offered,
    present.map(({ name, slice: { addressType, ports, endpoints } }) => ({
      name,
      addressType,
      ports,
      addresses: endpoints.map(({ address }) => address),
    })),
  );
  const taken = new Set([...open.keys()]);
  const fixes: ObjectFix[] = [];
  for (const slice of wanted) {
    const name = slice.name ?? freeName(service.name, cluster, taken);
    const object = meshSliceObject(service, offered, name, slice, isDead);
    const there = open.get(name);
    open.delete(name);
    if (there?.text === toMeshSlice(meshSliceSchema.parse(object))?.text) continue;
    fixes.push({
      path: pathOf(resources.endpointSlices, { namespace: service.namespace, name }),
      apply: object,
    });
  }
  return [...fixes, ...[...open.values()].map(removal)];
}

const removal = ({ namespace, name, uid }: MeshSlice): ObjectFix => ({
  path: pathOf(resources.endpointSlices, { namespace, name }),
  uid,
});

/** The first name that no slice of the service and cluster has. */
function freeName(service: string, cluster: string, taken: Set<string>): string {
  for (let n = 0; ; n++) {
    const hash = createHash('sha256').update(`${service}/${cluster}/${n}`).digest('hex').slice(0, 5);
    const name = `${service}-${cluster}-${hash}`;
    if (taken.has(name)) continue;
    taken.add(name);
    return name;
  }
}

function meshSliceObject(
  service: Service,
  { cluster, terminating = [] }: RemoteService,
  name: string,
  { addressType, ports, endpoints }: RemoteSlice,
  isDead: (address: string) => boolean,
) {
  return {
    ...typeOf(resources.endpointSlices),
    metadata: {
      name,
      namespace: service.namespace,
      labels: {
        ...service.labels,
        ...(service.headless ? { 'service.kubernetes.io/headless': '' } : {}),
        [SERVICE_NAME_LABEL]: service.name,
        [MANAGED_BY_LABEL]: MESH_SLICES,
        [SOURCE_CLUSTER_LABEL]: cluster,
      },
      ownerReferences: [
        { ...typeOf(resources.services), name: service.name, uid: service.uid, controller: true },
      ],
    },
    addressType,
    ports: ports.map(({ name: port, protocol, port: number }) => ({ name: port, protocol, port: number })),
    endpoints: endpoints.map(({ address, hostname }) => {
      const leaves = terminating.some(part => Object.hasOwn(part, address));
      const dead = isDead(address);
      return {
        addresses: [address],
        conditions: { ready: !dead && !leaves, serving: !dead, terminating: leaves },
        ...(hostname ? { hostname } : {}),
      };
    }),
  };
}
