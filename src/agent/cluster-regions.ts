import type { NodeRow } from '../api/crds/cilium-node.ts';
import { regionLabel } from '../api/node-traits.ts';
import { sharedText, text } from '../table/columns.ts';
import { derive, input } from '../table/derive.ts';
import { packed } from '../table/packed-rows.ts';
import type { ReadonlyTable } from '../table/table.ts';

/** Where a cluster is. */
export interface ClusterRegion {
  readonly cluster: string;
  /** What most of its nodes have as `topology.kubernetes.io/region`; '' where none has it. */
  readonly region: string;
}

export interface ClusterRegionsOptions {
  readonly own: ReadonlyTable<Pick<NodeRow, 'name' | 'labels'>>;
  /** Keyed `cluster/name`. */
  readonly remote: ReadonlyTable<NodeRegion>;
  /** Name of the own cluster. */
  readonly cluster: string;
}

interface NodeRegion {
  readonly cluster: string;
  readonly name: string;
  /** Its {@link regionLabel}; '' without. */
  readonly region: string;
}

/** A row for every cluster that has a node. */
export function deriveClusterRegions(options: ClusterRegionsOptions): ReadonlyTable<ClusterRegion> {
  const { own, remote, cluster } = options;
  // Nodes change all the time; where they are hardly ever does.
  const nodes = derive<NodeRegion>({
    name: 'node-regions',
    keyOf: row => `${row.cluster}/${row.name}`,
    rowPerGroup: true,
    equal: (a, b) => a.region === b.region,
    indexes: { cluster: row => [row.cluster] },
    rows: packed<NodeRegion>({ cluster: sharedText, name: text, region: sharedText }),
    inputs: [
      input(own, row => [`${cluster}/${row.name}`]),
      input(remote, row => [`${row.cluster}/${row.name}`]),
    ],
    compute(key) {
      const at = key.indexOf('/');
      const [of, name] = [key.slice(0, at), key.slice(at + 1)];
      const mine = of === cluster ? own.get(name) : undefined;
      const region = mine ? (mine.labels[regionLabel] ?? '') : remote.get(key)?.region;
      return region === undefined ? [] : [{ cluster: of, name, region }];
    },
  });
  return derive<ClusterRegion>({
    name: 'cluster-regions',
    keyOf: row => row.cluster,
    rowPerGroup: true,
    equal: (a, b) => a.region === b.region,
    inputs: [input(nodes, row => [row.cluster])],
    compute(of) {
      const counts = new Map<string, number>();
      for (const { region } of nodes.by('cluster', of)) counts.set(region, (counts.get(region) ?? 0) + 1);
      if (counts.size === 0) return [];
      counts.delete('');
      // Of regions with as many nodes the first by name, so that every agent says the same.
      const [most] = [...counts].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
      return [{ cluster: of, region: most?.[0] ?? '' }];
    },
  });
}
