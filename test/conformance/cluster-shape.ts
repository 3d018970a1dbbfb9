import { stringify } from 'yaml';
import { type ClusterConfig, kindApiVersion, type LabConfig, parseConfig } from '../../src/lab/config.ts';

export type ShapeName = 'zones' | 'double-zones';
export type IPFamily = 'ipv4' | 'ipv6' | 'dual';

/** Nodes that specs need: some want a zone's label on each, two want two nodes in each zone. */
const workersPerZone: Readonly<Record<ShapeName, number>> = { zones: 1, 'double-zones': 2 };

export const clusterName = 'conf';

/** The lab for a set: one cluster, of a control-plane node and workers in three zones. */
export function labConfig(shape: ShapeName, family: IPFamily): LabConfig {
  const workers = ['a', 'b', 'c'].flatMap(zone =>
    Array.from({ length: workersPerZone[shape] }, () => ({
      role: 'worker',
      labels: { 'topology.kubernetes.io/region': 'lab', 'topology.kubernetes.io/zone': `lab-${zone}` },
    })),
  );
  const document = {
    kind: 'Cluster',
    apiVersion: kindApiVersion,
    name: clusterName,
    networking: { ipFamily: family },
    nodes: [{ role: 'control-plane' }, ...workers],
  };
  return parseConfig([{ path: `conformance shape ${shape}`, text: stringify(document) }]);
}

/** Nodes that run pods of specs. */
export function workersOf(cluster: Pick<ClusterConfig, 'nodes'>): number {
  return cluster.nodes.filter(({ role }) => role === 'worker').length;
}
