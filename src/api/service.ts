import * as z from 'zod';

const protocol = z.enum(['TCP', 'UDP', 'SCTP']);
/** Go writes an empty map or list as null, or leaves it out. */
const strings = z
  .record(z.string(), z.string())
  .nullish()
  .transform(each => each ?? {});
const addresses = z
  .array(z.string())
  .nullish()
  .transform(each => each ?? []);

/** What Isthmus reads of a Kubernetes Service (v1). Absent fields get the API server's defaults. */
export const serviceSchema = z.object({
  metadata: z.object({
    name: z.string(),
    namespace: z.string(),
    uid: z.string().default(''),
    creationTimestamp: z.string().default(''),
    labels: strings,
    annotations: strings,
  }),
  spec: z.object({
    type: z.enum(['ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName']).default('ClusterIP'),
    clusterIP: z.string().default(''),
    clusterIPs: z.array(z.string()).nullish(),
    externalIPs: addresses,
    loadBalancerClass: z.string().nullish(),
    selector: strings,
    ports: z
      .array(
        z.object({
          name: z.string().default(''),
          protocol: protocol.default('TCP'),
          appProtocol: z.string().nullish(),
          port: z.int().min(1).max(65535),
          nodePort: z.int().min(0).max(65535).default(0),
        }),
      )
      .nullish()
      .transform(each => each ?? []),
    sessionAffinity: z.enum(['None', 'ClientIP']).default('None'),
    sessionAffinityConfig: z
      .object({
        clientIP: z.object({ timeoutSeconds: z.int().min(1).max(86_400).default(10_800) }).nullish(),
      })
      .nullish(),
    externalTrafficPolicy: z.enum(['Cluster', 'Local']).default('Cluster'),
    internalTrafficPolicy: z.enum(['Cluster', 'Local']).default('Cluster'),
    ipFamilies: z
      .array(z.enum(['IPv4', 'IPv6']))
      .nullish()
      .transform(each => each ?? []),
    trafficDistribution: z.string().nullish(),
    healthCheckNodePort: z.int().min(0).max(65535).default(0),
    publishNotReadyAddresses: z.boolean().default(false),
    loadBalancerSourceRanges: addresses,
  }),
  status: z
    .object({
      loadBalancer: z
        .object({
          ingress: z.array(z.object({ ip: z.string().optional(), ipMode: z.string().optional() })).nullish(),
        })
        .nullish(),
    })
    .nullish(),
});

export type Protocol = z.infer<typeof protocol>;

export interface ServicePort {
  /** '' where the port is unnamed. */
  readonly name: string;
  readonly protocol: Protocol;
  readonly appProtocol?: string;
  readonly port: number;
  /** 0: none. */
  readonly nodePort: number;
}

/** A row of the services table. */
export interface Service {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  /** RFC 3339, as Kubernetes wrote it. */
  readonly created: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly type: 'ClusterIP' | 'NodePort' | 'LoadBalancer' | 'ExternalName';
  /** Empty for headless and ExternalName services, and while none is allocated. */
  readonly clusterIPs: readonly string[];
  /** clusterIP is the literal `None`. */
  readonly headless: boolean;
  readonly externalIPs: readonly string[];
  /** Addresses of status.loadBalancer that the node answers for itself (ipMode is not Proxy, KEP-1860). */
  readonly loadBalancerIPs: readonly string[];
  /** '': the cluster's default load balancer. */
  readonly loadBalancerClass: string;
  readonly selector: Readonly<Record<string, string>>;
  readonly ports: readonly ServicePort[];
  /** Seconds a client keeps its backend; 0: no session affinity. */
  readonly affinityTimeout: number;
  readonly externalTrafficPolicy: 'Cluster' | 'Local';
  readonly internalTrafficPolicy: 'Cluster' | 'Local';
  readonly ipFamilies: readonly ('IPv4' | 'IPv6')[];
  /** '' where not said. */
  readonly trafficDistribution: string;
  readonly healthCheckNodePort: number;
  readonly publishNotReadyAddresses: boolean;
  /** Prefixes as the user wrote them; empty: everybody may use the load balancer's addresses. */
  readonly loadBalancerSourceRanges: readonly string[];
}

/** `namespace/name`: the primary key of the services table. */
export function serviceKey(row: { readonly namespace: string; readonly name: string }): string {
  return `${row.namespace}/${row.name}`;
}

/** Flattens a parsed Service into its row. */
export function toService(object: z.infer<typeof serviceSchema>): Service {
  const { metadata, spec, status } = object;
  const headless = spec.clusterIP === 'None' || HEADLESS_LABEL in metadata.labels;
  const addresses = spec.clusterIPs ?? (spec.clusterIP ? [spec.clusterIP] : []);
  return {
    namespace: metadata.namespace,
    name: metadata.name,
    uid: metadata.uid,
    created: metadata.creationTimestamp,
    labels: metadata.labels,
    annotations: metadata.annotations,
    type: spec.type,
    clusterIPs: headless || spec.type === 'ExternalName' ? [] : addresses.filter(each => each !== ''),
    headless,
    externalIPs: spec.externalIPs,
    loadBalancerIPs:
      spec.type === 'LoadBalancer'
        ? (status?.loadBalancer?.ingress ?? []).flatMap(each =>
            each.ip && each.ipMode !== 'Proxy' ? [each.ip] : [],
          )
        : [],
    loadBalancerClass: spec.loadBalancerClass ?? '',
    selector: spec.selector,
    ports: spec.ports.map(({ appProtocol, ...port }) => (appProtocol ? { ...port, appProtocol } : port)),
    affinityTimeout:
      spec.sessionAffinity === 'ClientIP'
        ? (spec.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? 10_800)
        : 0,
    externalTrafficPolicy: spec.externalTrafficPolicy,
    internalTrafficPolicy: spec.internalTrafficPolicy,
    ipFamilies: spec.ipFamilies,
    trafficDistribution: spec.trafficDistribution ?? '',
    healthCheckNodePort: spec.healthCheckNodePort,
    publishNotReadyAddresses: spec.publishNotReadyAddresses,
    loadBalancerSourceRanges: spec.type === 'LoadBalancer' ? spec.loadBalancerSourceRanges : [],
  };
}

/** Set by Kubernetes on headless services and their slices; users set it to opt out of a proxy. */
const HEADLESS_LABEL = 'service.kubernetes.io/headless';

/** Another proxy named here serves the Service: we leave it alone (Kubernetes, well-known labels). */
export const PROXY_NAME_LABEL = 'service.kubernetes.io/service-proxy-name';
