/**
 * Where Cilium keeps what in a mesh etcd. Pure. `state` is what a cluster publishes about itself, `cache` what
 * kvstoremesh copied of another one: there everything is scoped by cluster, in `state` identities and
 * addresses are not. Source: Cilium documentation, "Cluster Mesh" and "KVStoreMesh".
 */

export const heartbeatKey = 'cilium/.heartbeat';
/**
 * There while a cluster's API server does not answer its clustermesh-apiserver: then it does not see its own nodes die, and
 * readers have to look for themselves. Below the heartbeat, which all of ours follow; readers of Cilium do not look there.
 */
export const blindKey = `${heartbeatKey}/blind`;
export const syncedPrefix = (cluster: string): string => `cilium/synced/${cluster}/`;
export const clusterConfigKey = (cluster: string): string => `cilium/cluster-config/${cluster}`;

/** The kinds of objects that cross clusters, in the order in which a reader should learn of them. */
export const kinds = ['nodes', 'identities', 'ip', 'services', 'serviceexports'] as const;
export type Kind = (typeof kinds)[number];

/** The kinds that send packets their way: what agents follow. Service exports are for operators. */
export const datapathKinds = ['nodes', 'identities', 'ip', 'services'] as const satisfies readonly Kind[];

/** What a mirror copies: also what its own readers have no use for. */
export const mirroredKinds = [...kinds, 'endpointslices'] as const;
export type MirroredKind = (typeof mirroredKinds)[number];

/** What is read to know of these kinds: a cluster tells of its services in one of two ways. */
export const readKinds = (of: readonly Kind[]): readonly MirroredKind[] =>
  of.includes('services') ? [...of, 'endpointslices'] : of;

/** The prefix a cluster's objects of a kind are below, with its last slash. */
export function objectPrefix(kind: MirroredKind, cluster: string, cached = false): string {
  const root = `cilium/${cached ? 'cache' : 'state'}/${kind}/v1`;
  if (kind === 'identities') return cached ? `${root}/${cluster}/id/` : `${root}/id/`;
  if (kind === 'ip') return cached ? `${root}/${cluster}/` : `${root}/default/`;
  return `${root}/${cluster}/`;
}

/** The key whose presence says that everything of a kind was written at least once. */
export function canaryKey(kind: MirroredKind, cluster: string, cached = false): string {
  return `${syncedPrefix(cluster)}cilium/${cached ? 'cache' : 'state'}/${kind}/v1`;
}

/** Below it a mirror of ours says how it hears each cluster (mirror-report.ts). Readers of Cilium do not look there. */
export const reportsPrefix = 'cilium/cache/isthmus/v1/';
export const reportPrefix = (cluster: string): string => `${reportsPrefix}${cluster}/`;
export const reportKey = (cluster: string): string => `${reportPrefix(cluster)}report`;

export const nodeKey = (cluster: string, name: string): string => objectPrefix('nodes', cluster) + name;
export const serviceKey = (cluster: string, namespace: string, name: string): string =>
  `${objectPrefix('services', cluster)}${namespace}/${name}`;
export const serviceExportKey = (cluster: string, namespace: string, name: string): string =>
  `${objectPrefix('serviceexports', cluster)}${namespace}/${name}`;
export const identityKey = (cluster: string, identity: number): string =>
  objectPrefix('identities', cluster) + identity;
export const addressKey = (cluster: string, address: string): string => objectPrefix('ip', cluster) + address;
