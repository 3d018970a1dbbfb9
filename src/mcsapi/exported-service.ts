import type { ServiceExport } from '../api/crds/service-export.ts';
import type { Protocol, Service } from '../api/service.ts';

export type IpFamily = 'IPv4' | 'IPv6';

/** A port as clients of the clusterset see it. */
export interface ExportedPort {
  /** '' where unnamed. */
  readonly name: string;
  readonly protocol: Protocol;
  /** '' where not said. */
  readonly appProtocol: string;
  readonly port: number;
}

/**
 * What one cluster exports under a name: its Service as the ServiceExport of the same name shows it to the clusterset.
 * Its backends are not in it: they travel with the derived Service. Source: KEP-1645.
 */
export interface ExportedService {
  readonly cluster: string;
  readonly namespace: string;
  readonly name: string;
  /** When the ServiceExport was made, RFC 3339: of several that disagree the oldest is right. */
  readonly created: string;
  readonly ports: readonly ExportedPort[];
  readonly type: 'ClusterSetIP' | 'Headless';
  readonly sessionAffinity: 'None' | 'ClientIP';
  /** Seconds; undefined without affinity. */
  readonly affinityTimeout: number | undefined;
  /** Empty where an older exporter does not say. */
  readonly ipFamilies: readonly IpFamily[];
  readonly internalTrafficPolicy: 'Cluster' | 'Local';
  readonly trafficDistribution: string | undefined;
  /** As the ServiceExport's exportedLabels and exportedAnnotations say. */
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

/** Index of tables of exported services that finds every cluster's row of one name: `namespace/name`. */
export const EXPORTS_BY_SERVICE = 'service';

/** Options of every table of exported services; key `cluster/namespace/name`. */
export const exportedServiceTable = {
  name: 'service-exports',
  keyOf: (row: ExportedService): string => `${row.cluster}/${row.namespace}/${row.name}`,
  indexes: { [EXPORTS_BY_SERVICE]: (row: ExportedService) => [`${row.namespace}/${row.name}`] },
  equal: (a: ExportedService, b: ExportedService): boolean => JSON.stringify(a) === JSON.stringify(b),
} as const;

/** A name without an address is nothing that another cluster could send to. */
export const isExportable = (service: Service): boolean => service.type !== 'ExternalName';

/** What `cluster` exports by a ServiceExport and the Service of its name. */
export function exportedService(
  cluster: string,
  service: Service,
  { created, labels, annotations }: Pick<ServiceExport, 'created' | 'labels' | 'annotations'>,
): ExportedService {
  return {
    cluster,
    namespace: service.namespace,
    name: service.name,
    created,
    ports: service.ports.map(({ name, protocol, appProtocol, port }) => ({
      name,
      protocol,
      appProtocol: appProtocol ?? '',
      port,
    })),
    type: service.headless ? 'Headless' : 'ClusterSetIP',
    sessionAffinity: service.affinityTimeout ? 'ClientIP' : 'None',
    affinityTimeout: service.affinityTimeout || undefined,
    ipFamilies: service.ipFamilies,
    internalTrafficPolicy: service.internalTrafficPolicy,
    trafficDistribution: service.trafficDistribution || undefined,
    labels,
    annotations,
  };
}
