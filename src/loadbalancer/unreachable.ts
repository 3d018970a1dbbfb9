/** Whom packets do not reach although they are listed: their backends are out of choice. */
export interface Unreachable {
  /** A node of the own cluster, by name. */
  node(name: string): boolean;
  cluster(name: string): boolean;
}

export const allReachable: Unreachable = { node: () => false, cluster: () => false };
