import * as z from 'zod';

/**
 * What a node says on its own CiliumNode of whom it probes and does not hear. Everybody who reads CiliumNodes judges by
 * it: clustermesh/verdicts.ts. Absent where it hears them all.
 */
export const unreachableAnnotation = 'node.isthmus.dev/unreachable';

export interface Unreachable {
  /** Nodes of its own cluster, by name. */
  readonly nodes: readonly string[];
  /** Clusters of which no node answers that it probes. */
  readonly clusters: readonly string[];
  /** Single nodes of other clusters, `cluster/node`. */
  readonly remoteNodes: readonly string[];
}

const names = z.array(z.string()).default([]);
const schema = z.object({ nodes: names, clusters: names, remoteNodes: names });
const nobody: Unreachable = { nodes: [], clusters: [], remoteNodes: [] };

/** The annotation's value, equal for equal contents; undefined: no annotation. */
export function formatUnreachable({ nodes, clusters, remoteNodes }: Unreachable): string | undefined {
  if (!nodes.length && !clusters.length && !remoteNodes.length) return undefined;
  return JSON.stringify({
    ...(nodes.length ? { nodes: [...nodes].sort() } : {}),
    ...(clusters.length ? { clusters: [...clusters].sort() } : {}),
    ...(remoteNodes.length ? { remoteNodes: [...remoteNodes].sort() } : {}),
  });
}

/** A value that cannot be understood accuses nobody: a doubt must not take a node out of service. */
export function parseUnreachable(value: string | undefined): Unreachable {
  if (value === undefined) return nobody;
  try {
    return schema.parse(JSON.parse(value));
  } catch {
    return nobody;
  }
}
