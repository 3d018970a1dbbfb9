import * as z from 'zod';
import type { MaxClusters } from '../api/identity-number.ts';
import { BadValue, parseJson } from './bad-value.ts';
import { clusterConfigKey } from './layout.ts';

/** What a cluster says about itself before anything of it is read. */
export interface ClusterConfig {
  readonly id: number;
  /** A canary tells when each kind of object is complete. */
  readonly syncedCanaries: boolean;
  /** The objects are a copy below `cilium/cache`. */
  readonly cached: boolean;
  /** 0 where an old writer does not say. */
  readonly maxConnectedClusters: number;
  /** Undefined: the writer knows nothing of MCS-API. */
  readonly serviceExportsEnabled: boolean | undefined;
  /** Whether services are exported, slices, or both. Absent: services only. */
  readonly endpointSlicesExportMode?: SlicesExportMode;
  /** The copy is a mirror's of ours, which reports how it hears the original (mirror-report.ts). */
  readonly reported?: boolean;
  /** Node that runs the etcd of the original. Ours alone. */
  readonly node?: string;
}

const slicesExportModes = ['services-and-endpointslices', 'endpointslices-only'] as const;
type SlicesExportMode = (typeof slicesExportModes)[number];

const schema = z.object({
  id: z.int().default(0),
  // Ours alone; Cilium's readers pass over it.
  node: z.string().default(''),
  capabilities: z
    .object({
      syncedCanaries: z.boolean().default(false),
      cached: z.boolean().default(false),
      maxConnectedClusters: z.int().default(0),
      serviceExportsEnabled: z.boolean().nullish(),
      endpointSlicesExportMode: z
        .enum(['', ...slicesExportModes], {
          error: '"services-and-endpointslices" or "endpointslices-only"',
        })
        .default(''),
      // Ours alone; Cilium's readers pass over it.
      mirrorReports: z.boolean().default(false),
    })
    .prefault({}),
});

/** @throws BadValue when the ID is not one a cluster of the mesh may have, or the layouts differ */
export function parseClusterConfig(cluster: string, text: string, max: MaxClusters): ClusterConfig {
  const key = clusterConfigKey(cluster);
  const { id, node, capabilities } = parseJson(key, text, schema);
  if (id < 1 || id > max) throw new BadValue(key, 'id', id, `a cluster ID from 1 to ${max}`);
  const theirs = capabilities.maxConnectedClusters;
  if (theirs !== max && (max === 511 || theirs === 511))
    throw new BadValue(key, 'capabilities.maxConnectedClusters', theirs, `${max}, as in this cluster`);
  return {
    id,
    syncedCanaries: capabilities.syncedCanaries,
    cached: capabilities.cached,
    maxConnectedClusters: theirs,
    serviceExportsEnabled: capabilities.serviceExportsEnabled ?? undefined,
    ...(capabilities.endpointSlicesExportMode
      ? { endpointSlicesExportMode: capabilities.endpointSlicesExportMode }
      : {}),
    ...(capabilities.mirrorReports ? { reported: true } : {}),
    ...(node ? { node } : {}),
  };
}

export function formatClusterConfig(config: ClusterConfig): string {
  const { id, syncedCanaries, cached, maxConnectedClusters, serviceExportsEnabled } = config;
  return JSON.stringify({
    ...(id ? { id } : {}),
    ...(config.node ? { node: config.node } : {}),
    capabilities: {
      ...(syncedCanaries ? { syncedCanaries } : {}),
      ...(cached ? { cached } : {}),
      ...(maxConnectedClusters ? { maxConnectedClusters } : {}),
      ...(serviceExportsEnabled === undefined ? {} : { serviceExportsEnabled }),
      ...(config.endpointSlicesExportMode === undefined
        ? {}
        : { endpointSlicesExportMode: config.endpointSlicesExportMode }),
      ...(config.reported ? { mirrorReports: true } : {}),
    },
  });
}
