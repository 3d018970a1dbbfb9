import * as z from 'zod';

/** What Isthmus reads of an EndpointSlice (discovery.k8s.io/v1). */
export const endpointSliceSchema = z.object({
  metadata: z.object({
    name: z.string(),
    namespace: z.string(),
    labels: z.record(z.string(), z.string()).nullish(),
  }),
  addressType: z.enum(['IPv4', 'IPv6', 'FQDN']),
  endpoints: z
    .array(
      z.object({
        addresses: z.array(z.string()),
        conditions: z
          .object({
            ready: z.boolean().nullish(),
            serving: z.boolean().nullish(),
            terminating: z.boolean().nullish(),
          })
          .nullish(),
        hostname: z.string().nullish(),
        nodeName: z.string().nullish(),
        zone: z.string().nullish(),
        hints: z
          .object({
            forZones: z.array(z.object({ name: z.string() })).nullish(),
            forNodes: z.array(z.object({ name: z.string() })).nullish(),
          })
          .nullish(),
      }),
    )
    .nullish(),
  ports: z
    .array(
      z.object({
        name: z.string().nullish(),
        protocol: z.enum(['TCP', 'UDP', 'SCTP']).nullish(),
        port: z.int().min(1).max(65535).nullish(),
      }),
    )
    .nullish(),
});

export interface SlicePort {
  /** '' where the port is unnamed. */
  readonly name: string;
  readonly protocol: 'TCP' | 'UDP' | 'SCTP';
  readonly port: number;
}

export interface SliceEndpoint {
  readonly address: string;
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
  /** '' where unknown. */
  readonly node: string;
  readonly hostname: string;
  readonly zone: string;
  /** Hints (KEP-2433, KEP-3015): whose clients the endpoint is meant for. Empty: no hint. */
  readonly forZones: readonly string[];
  readonly forNodes: readonly string[];
}

/** A row of the endpoint slices table. */
export interface EndpointSlice {
  readonly namespace: string;
  readonly name: string;
  /** `namespace/name` of the Service it belongs to; '' for a slice of nobody. */
  readonly service: string;
  readonly addressType: 'IPv4' | 'IPv6' | 'FQDN';
  readonly ports: readonly SlicePort[];
  readonly endpoints: readonly SliceEndpoint[];
}

/** `namespace/name`: the primary key of the endpoint slices table. */
export function endpointSliceKey(row: Pick<EndpointSlice, 'namespace' | 'name'>): string {
  return `${row.namespace}/${row.name}`;
}

/** Index that finds the slices of a service by `namespace/name`. */
export const SLICES_BY_SERVICE = 'service';

/** Index that finds the slices with an endpoint on a node, by its name. */
export const SLICES_BY_NODE = 'node';

/** Options of every table of endpoint slices. */
export const endpointSliceTable = {
  name: 'endpoint-slices',
  keyOf: endpointSliceKey,
  indexes: {
    [SLICES_BY_SERVICE]: (row: EndpointSlice) => (row.service === '' ? [] : [row.service]),
    [SLICES_BY_NODE]: nodesOf,
  },
} as const;

function nodesOf(row: EndpointSlice): string[] {
  const nodes = new Set(row.endpoints.map(each => each.node));
  nodes.delete('');
  return [...nodes];
}

/** Who keeps a slice, by the label of that name. Of other clusters' endpoints the operator does, as Cilium's. */
export const MANAGED_BY_LABEL = 'endpointslice.kubernetes.io/managed-by';
export const MESH_SLICES = 'endpointslice-mesh-controller.cilium.io';

/**
 * Selects the slices of this cluster's own endpoints. Those of others are copies for DNS and for third parties: the
 * mesh itself knows those endpoints from their own cluster.
 */
export const ownEndpointSlices = `${MANAGED_BY_LABEL}!=${MESH_SLICES}`;

export const SERVICE_NAME_LABEL = 'kubernetes.io/service-name';
const noHints: readonly string[] = [];

/**
 * Flattens a parsed slice into its row. Conditions left out count as the API says: ready and serving
 * unless told otherwise, terminating only if told. A port without a number restricts nothing and so
 * names no backend: it is dropped, as kube-proxy does.
 */
export function toEndpointSlice(object: z.infer<typeof endpointSliceSchema>): EndpointSlice {
  const { metadata } = object;
  const service = metadata.labels?.[SERVICE_NAME_LABEL];
  return {
    namespace: metadata.namespace,
    name: metadata.name,
    service: service ? `${metadata.namespace}/${service}` : '',
    addressType: object.addressType,
    ports: (object.ports ?? []).flatMap(each =>
      each.port ? [{ name: each.name ?? '', protocol: each.protocol ?? 'TCP', port: each.port }] : [],
    ),
    endpoints: (object.endpoints ?? []).flatMap(each => {
      const ready = each.conditions?.ready ?? true;
      // All addresses of one endpoint are fungible; consumers use the first (EndpointSlice API).
      const address = each.addresses[0];
      if (address === undefined) return [];
      return [
        {
          address,
          ready,
          serving: each.conditions?.serving ?? ready,
          terminating: each.conditions?.terminating ?? false,
          node: each.nodeName ?? '',
          hostname: each.hostname ?? '',
          zone: each.zone ?? '',
          forZones: each.hints?.forZones?.map(zone => zone.name) ?? noHints,
          forNodes: each.hints?.forNodes?.map(node => node.name) ?? noHints,
        },
      ];
    }),
  };
}
