import * as z from 'zod';
import { type PresentCondition, presentCondition } from './load-balancer-ip-pool.ts';

const strings = z.record(z.string(), z.string()).nullish();

/** What is read of a ServiceImport (multicluster.x-k8s.io, v1alpha1 and v1beta1 alike). Source: KEP-1645. */
export const ServiceImportObject = z.object({
  metadata: z.object({
    name: z.string(),
    namespace: z.string(),
    uid: z.string(),
    generation: z.number().default(0),
    deletionTimestamp: z.string().nullish(),
    labels: strings,
    annotations: strings,
  }),
  spec: z
    .object({
      ports: z
        .array(
          z.object({
            name: z.string().nullish(),
            protocol: z.string().nullish(),
            appProtocol: z.string().nullish(),
            port: z.number(),
          }),
        )
        .nullish(),
      ips: z.array(z.string()).nullish(),
      type: z.string(),
      sessionAffinity: z.string().nullish(),
      sessionAffinityConfig: z
        .object({ clientIP: z.object({ timeoutSeconds: z.number().nullish() }).nullish() })
        .nullish(),
      ipFamilies: z.array(z.string()).nullish(),
      internalTrafficPolicy: z.string().nullish(),
      trafficDistribution: z.string().nullish(),
    })
    .nullish(),
  status: z
    .object({
      clusters: z.array(z.object({ cluster: z.string() })).nullish(),
      conditions: z.array(presentCondition).nullish(),
    })
    .nullish(),
});
export type ServiceImportObject = z.infer<typeof ServiceImportObject>;

/** A service of the clusterset, as this cluster has it. */
export interface ServiceImport {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly generation: number;
  /** Labels, annotations and spec: two of equal text need no change. */
  readonly text: string;
  /** Clusters that export it, as its status says. */
  readonly clusters: readonly string[];
  readonly conditions: readonly PresentCondition[];
}

/** `namespace/name`. */
export const serviceImportTable = {
  name: 'service-imports',
  keyOf: (row: ServiceImport): string => `${row.namespace}/${row.name}`,
} as const;

export function toServiceImport(object: ServiceImportObject): ServiceImport | undefined {
  const { metadata, status } = object;
  if (metadata.deletionTimestamp) return undefined;
  return {
    namespace: metadata.namespace,
    name: metadata.name,
    uid: metadata.uid,
    generation: metadata.generation,
    text: serviceImportText(object),
    clusters: status?.clusters?.map(each => each.cluster) ?? [],
    conditions: status?.conditions ?? [],
  };
}

/** Canonical text of what is wanted, or is there, of an import beside its status. */
export function serviceImportText({
  metadata,
  spec,
}: Pick<ServiceImportObject, 'spec'> & {
  readonly metadata: Pick<ServiceImportObject['metadata'], 'labels' | 'annotations'>;
}): string {
  const ordered = (map: Readonly<Record<string, string>> | null | undefined): object =>
    Object.entries(map ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([
    ordered(metadata.labels),
    ordered(metadata.annotations),
    spec?.ports?.map(each => [each.name ?? '', each.protocol ?? 'TCP', each.appProtocol ?? '', each.port]) ??
      [],
    spec?.ips ?? [],
    spec?.type,
    spec?.sessionAffinity ?? 'None',
    spec?.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? 0,
    spec?.ipFamilies ?? [],
    spec?.internalTrafficPolicy ?? '',
    spec?.trafficDistribution ?? '',
  ]);
}
