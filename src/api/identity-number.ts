/**
 * How security identities are numbered, equal in all clusters of a mesh. 24 bits travel in the tunnel's VNI.
 * Source: Cilium documentation, "Identity-Relevant Labels" and "Cluster Mesh"; pure.
 */

/** How many clusters a mesh can have decides how the 24 bits are shared out. */
export type MaxClusters = 255 | 511;

/** Identities whose meaning is fixed. */
export const reserved = {
  unknown: 0,
  host: 1,
  world: 2,
  unmanaged: 3,
  health: 4,
  init: 5,
  remoteNode: 6,
  kubeApiserver: 7,
  ingress: 8,
  worldIpv4: 9,
  worldIpv6: 10,
} as const;

const reservedNames: Readonly<Record<number, string>> = {
  0: 'unknown',
  1: 'host',
  2: 'world',
  3: 'unmanaged',
  4: 'health',
  5: 'init',
  6: 'remote-node',
  7: 'kube-apiserver',
  8: 'ingress',
  9: 'world-ipv4',
  10: 'world-ipv6',
};

/** `host`, `world`… of a reserved number, else undefined. */
export function reservedName(identity: number): string | undefined {
  return reservedNames[identity];
}

/** Below it: reserved, well-known and user-reserved identities, the same in every cluster. */
export const firstAllocatable = 256;

/** Bits of an identity below the cluster ID. */
export function clusterShift(maxClusters: MaxClusters): 15 | 16 {
  return maxClusters === 511 ? 15 : 16;
}

/** The first and last identity a cluster may allocate. */
export function allocationRange(
  clusterId: number,
  maxClusters: MaxClusters = 255,
): { min: number; max: number } {
  const shift = clusterShift(maxClusters);
  if (!Number.isInteger(clusterId) || clusterId < 0 || clusterId > maxClusters)
    throw new Error(`cluster ID ${clusterId}: expected 0 to ${maxClusters}`);
  const base = clusterId * 2 ** shift;
  // A cluster without an ID has the numbers of the first two bytes, whatever the layout.
  if (clusterId === 0) return { min: firstAllocatable, max: 0xffff };
  return { min: base + firstAllocatable, max: base + 2 ** shift - 1 };
}

/** The cluster an identity was allocated in; 0 for reserved ones and for a cluster without an ID. */
export function clusterOf(identity: number, maxClusters: MaxClusters = 255): number {
  return (identity >>> clusterShift(maxClusters)) & maxClusters;
}

/** True if a peer of `clusterId` may claim this identity: one of its own, or one that is the same everywhere. */
export function mayClaim(identity: number, clusterId: number, maxClusters: MaxClusters = 255): boolean {
  if (identity < firstAllocatable) return identity >= 0;
  const { min, max } = allocationRange(clusterId, maxClusters);
  return identity >= min - firstAllocatable && identity <= max;
}
