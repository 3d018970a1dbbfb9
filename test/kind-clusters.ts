import { kindApiVersion, type LabConfig, parseConfig } from '../src/lab/config.ts';

/** A cluster for a test or a benchmark: one node with the control plane, and workers. */
export interface KindCluster {
  readonly name: string;
  /** Default 0. */
  readonly workers?: number;
  /** As kind's file has it. */
  readonly networking?: Readonly<Record<string, unknown>>;
}

/** The lab of these clusters, by kind's files. */
export function kindClusters(...clusters: readonly KindCluster[]): LabConfig {
  return parseConfig(
    clusters.map(({ name, workers = 0, networking = {} }) => ({
      path: `cluster ${name}`,
      text: JSON.stringify({
        apiVersion: kindApiVersion,
        kind: 'Cluster',
        name,
        networking,
        nodes: [{ role: 'control-plane' }, ...Array.from({ length: workers }, () => ({ role: 'worker' }))],
      }),
    })),
  );
}
