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

type SliceObject = z.infer<typeof endpointSliceSchema>;

/**
 * A slice with nothing unusual in it, as it is, in a fifth of the time that the schema takes; undefined: the schema has to
 * say. Of a hundred endpoints each change brings all.
 */
export function plainEndpointSlice(value: unknown): SliceObject | undefined {
  if (!isObject(value) || !isObject(value.metadata)) return undefined;
  const { metadata, addressType, endpoints, ports } = value;
  const { name, namespace, labels } = metadata;
  return typeof name === 'string' &&
    typeof namespace === 'string' &&
    (labels === undefined || (isObject(labels) && Object.values(labels).every(isText))) &&
    (addressType === 'IPv4' || addressType === 'IPv6' || addressType === 'FQDN') &&
    isListOf(endpoints, isPlainEndpoint) &&
    isListOf(ports, isPlainPort)
    ? (value as SliceObject)
    : undefined;
}

function isPlainEndpoint(value: unknown): boolean {
  if (!isObject(value)) return false;
  const { addresses, conditions, hostname, nodeName, zone, hints } = value;
  return (
    Array.isArray(addresses) &&
    addresses.every(isText) &&
    (conditions === undefined ||
      (isObject(conditions) &&
        isFlag(conditions.ready) &&
        isFlag(conditions.serving) &&
        isFlag(conditions.terminating))) &&
    isTextOrNone(hostname) &&
    isTextOrNone(nodeName) &&
    isTextOrNone(zone) &&
    (hints === undefined ||
      (isObject(hints) && isListOf(hints.forZones, isNamed) && isListOf(hints.forNodes, isNamed)))
  );
}

function isPlainPort(value: unknown): boolean {
  if (!isObject(value)) return false;
  const { name, protocol, port } = value;
  return (
    isTextOrNone(name) &&
    (protocol === undefined || protocol === 'TCP' || protocol === 'UDP' || protocol === 'SCTP') &&
    (port === undefined || (Number.isInteger(port) && (port as number) >= 1 && (port as number) <= 65_535))
  );
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const isText = (value: unknown): boolean => typeof value === 'string';
const isTextOrNone = (value: unknown): boolean => value === undefined || typeof value === 'string';
const isFlag = (value: unknown): boolean => value === undefined || typeof value === 'boolean';
const isNamed = (value: unknown): boolean => isObject(value) && typeof value.name === 'string';
const isListOf = (value: unknown, is: (each: unknown) => boolean): boolean =>
  value === undefined || (Array.isArray(value) && value.every(is));

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
