import * as z from 'zod';
import { type PresentCondition, presentCondition } from './load-balancer-ip-pool.ts';

const strings = z
  .record(z.string(), z.string())
  .nullish()
  .transform(each => each ?? {});

/** What is read of a ServiceExport (multicluster.x-k8s.io, v1alpha1 and v1beta1 alike). Source: KEP-1645. */
export const ServiceExportObject = z.object({
  metadata: z.object({
    name: z.string(),
    namespace: z.string(),
    uid: z.string(),
    generation: z.number().default(0),
    creationTimestamp: z.string(),
    deletionTimestamp: z.string().nullish(),
  }),
  spec: z.object({ exportedLabels: strings, exportedAnnotations: strings }).nullish(),
  status: z.object({ conditions: z.array(presentCondition).nullish() }).nullish(),
});

/** Says that the Service of its name is to be had in the whole clusterset. */
export interface ServiceExport {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly generation: number;
  /** RFC 3339: of several clusters that disagree the oldest export is right. */
  readonly created: string;
  /** Labels and annotations that go with it to all clusters. */
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly conditions: readonly PresentCondition[];
}

/** `namespace/name`. */
export const serviceExportTable = {
  name: 'service-exports-here',
  keyOf: (row: ServiceExport): string => `${row.namespace}/${row.name}`,
} as const;

/** @returns undefined for one that is being deleted: it exports nothing any more */
export function toServiceExport(object: z.infer<typeof ServiceExportObject>): ServiceExport | undefined {
  const { metadata, spec, status } = object;
  if (metadata.deletionTimestamp) return undefined;
  return {
    namespace: metadata.namespace,
    name: metadata.name,
    uid: metadata.uid,
    generation: metadata.generation,
    created: metadata.creationTimestamp,
    labels: spec?.exportedLabels ?? {},
    annotations: spec?.exportedAnnotations ?? {},
    conditions: status?.conditions ?? [],
  };
}
