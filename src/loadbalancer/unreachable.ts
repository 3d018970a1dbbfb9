/** Whom packets do not reach although they are listed: their backends are out of choice. */
export interface Unreachable {
  /** A node of the own cluster, by name. */
  node(name: string): boolean;
  /** Every node of the own cluster is reached: none need be asked for. */
  readonly everyNode: boolean;
  cluster(name: string): boolean;
  /** Tells backends of a cluster, by their address, that are on nodes of it that are dead; undefined: none is. */
  backendsOf(cluster: string): ((address: string) => boolean) | undefined;
}

export const allReachable: Unreachable = {
  node: () => false,
  everyNode: true,
  cluster: () => false,
  backendsOf: () => undefined,
};
