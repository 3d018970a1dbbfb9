import { parseServiceAnnotations } from '../api/annotations.ts';
import type { EndpointObjectRow } from '../api/crds/cilium-endpoint.ts';
import type { IdentityRow } from '../api/crds/cilium-identity.ts';
import type { NodeRow } from '../api/crds/cilium-node.ts';
import type { ServiceExport } from '../api/crds/service-export.ts';
import { type EndpointSlice, SLICES_BY_NODE, SLICES_BY_SERVICE } from '../api/endpoint-slice.ts';
import { firstAllocatable, mayClaim } from '../api/identity-number.ts';
import { labelNames } from '../api/labels.ts';
import { type Service, serviceKey as serviceName } from '../api/service.ts';
import type { EtcdRow } from '../kvstore/target.ts';
import { deriveCurrentSlices, deriveLeaving } from '../loadbalancer/leaving.ts';
import { exportedService, isExportable } from '../mcsapi/exported-service.ts';
import { derive, input } from '../table/derive.ts';
import type { ReadonlyTable } from '../table/table.ts';
import { type Candidate, endpointStates } from './endpoint-states.ts';
import { addressKey, identityKey, type Kind, nodeKey, serviceExportKey, serviceKey } from './layout.ts';
import { formatServiceExport } from './service-export.ts';
import { formatAddress, formatNode, type Origin } from './values.ts';
import { deriveVerdicts } from './verdict-tables.ts';

/** Whether what is in a namespace is for other clusters. */
export interface ExportNamespace {
  readonly name: string;
  readonly uid?: string;
  readonly global: boolean;
  /** What it says that nobody can obey. */
  readonly problem?: string;
}

/** What a cluster keeps in Kubernetes that others may know. Services, endpoints, identities: index {@link BY_NAMESPACE}. */
export interface ExportSources {
  /** One that is not known yet is not global. */
  readonly namespaces: ReadonlyTable<ExportNamespace>;
  readonly services: ReadonlyTable<Service>;
  /** Empty, and synced, without MCS-API. */
  readonly serviceExports: ReadonlyTable<ServiceExport>;
  /** With the indexes of `endpointSliceTable`; without those of other clusters' endpoints. */
  readonly slices: ReadonlyTable<EndpointSlice>;
  readonly nodes: ReadonlyTable<NodeRow>;
  readonly identities: ReadonlyTable<IdentityRow>;
  /** With an index `address`. */
  readonly endpoints: ReadonlyTable<EndpointObjectRow>;
}

/** Index of the endpoints table that finds who claims an address. */
export const ENDPOINTS_BY_ADDRESS = 'address';

/** Index that finds what is in a namespace. */
export const BY_NAMESPACE = 'namespace';

/** Namespace of the pods that an identity stands for. */
export const namespaceOfIdentity = ({ labels }: Pick<IdentityRow, 'labels'>): string =>
  labels[`k8s:${labelNames.namespace}`] ?? '';

/** The keys a cluster's etcd is to hold, one table for each kind of object. */
export function deriveExport(sources: ExportSources, origin: Origin): Record<Kind, ReadonlyTable<EtcdRow>> {
  const options = (kind: Kind) => ({
    name: `export-${kind}`,
    keyOf: (row: EtcdRow) => row.key,
    equal: (a: EtcdRow, b: EtcdRow) => a.value === b.value,
  });
  const { namespaces, services, serviceExports, nodes, identities, endpoints } = sources;
  const slices = deriveCurrentSlices({ slices: sources.slices, leaving: deriveLeaving(endpoints), nodes });
  const isGlobal = (namespace: string): boolean => namespaces.get(namespace)?.global === true;
  const verdicts = deriveVerdicts(nodes).nodes;
  const isDead = (node: string): boolean => verdicts.get(node)?.dead === true;
  return {
    nodes: derive<EtcdRow>({
      ...options('nodes'),
      inputs: [input(nodes, row => [row.name])],
      compute: name => {
        const node = nodes.get(name);
        return node ? [{ key: nodeKey(origin.cluster, name), value: formatNode(node, origin) }] : [];
      },
    }),
    identities: derive<EtcdRow>({
      ...options('identities'),
      inputs: [
        input(identities, row => [String(row.identity)]),
        input(namespaces, function* ({ name }) {
          for (const row of identities.by(BY_NAMESPACE, name)) yield String(row.identity);
        }),
      ],
      compute: number => {
        const row = identities.get(number);
        return row && isOwn(row.identity, origin) && isGlobal(namespaceOfIdentity(row))
          ? [{ key: identityKey(origin.cluster, row.identity), value: row.text }]
          : [];
      },
    }),
    ip: derive<EtcdRow>({
      ...options('ip'),
      inputs: [
        input(endpoints, row => row.addresses),
        input(namespaces, function* ({ name }) {
          for (const row of endpoints.by(BY_NAMESPACE, name)) yield* row.addresses;
        }),
      ],
      compute: address => exportAddress(address, endpoints, origin, isGlobal),
    }),
    services: derive<EtcdRow>({
      ...options('services'),
      inputs: [
        input(services, row => [serviceName(row)]),
        input(namespaces, function* ({ name }) {
          for (const row of services.by(BY_NAMESPACE, name)) yield serviceName(row);
        }),
        input(slices, row => (row.service === '' ? [] : [row.service])),
        input(verdicts, function* ({ node }) {
          for (const slice of slices.by(SLICES_BY_NODE, node)) if (slice.service !== '') yield slice.service;
        }),
      ],
      compute: name => {
        const service = services.get(name);
        if (!service || !isGlobal(service.namespace)) return [];
        return exportService(service, slices.by(SLICES_BY_SERVICE, name), origin, isDead);
      },
    }),
    serviceexports: derive<EtcdRow>({
      ...options('serviceexports'),
      inputs: [
        input(serviceExports, row => [serviceName(row)]),
        input(namespaces, function* ({ name }) {
          for (const row of services.by(BY_NAMESPACE, name))
            if (serviceExports.has(serviceName(row))) yield serviceName(row);
        }),
        // Of all services of a cluster few are exported.
        input(services, row => (serviceExports.has(serviceName(row)) ? [serviceName(row)] : [])),
      ],
      compute: name => {
        const service = services.get(name);
        const found = serviceExports.get(name);
        if (!service || !found || !isExportable(service) || !isGlobal(service.namespace)) return [];
        const value = formatServiceExport(exportedService(origin.cluster, service, found));
        return [{ key: serviceExportKey(origin.cluster, service.namespace, service.name), value }];
      },
    }),
  };
}

/** Of several endpoints that claim an address the one known longest has it. */
function exportAddress(
  address: string,
  endpoints: ReadonlyTable<EndpointObjectRow>,
  origin: Origin,
  isGlobal: (namespace: string) => boolean,
): EtcdRow[] {
  const [owner] = endpoints.by(ENDPOINTS_BY_ADDRESS, address);
  if (!owner || !isGlobal(owner.namespace)) return [];
  if (!mayClaim(owner.identity, origin.clusterId, origin.maxClusters)) return [];
  const value = formatAddress({
    address,
    nodeIp: owner.nodeIp,
    identity: owner.identity,
    encryptionKey: owner.encryptionKey,
    namespace: owner.namespace,
    pod: owner.name,
    serviceAccount: owner.serviceAccount,
  });
  return [{ key: addressKey(origin.cluster, address), value }];
}

/** Its own cluster wants others to have it. */
export function isOffered({ annotations, type }: Pick<Service, 'annotations' | 'type'>): boolean {
  const { global, shared } = parseServiceAnnotations(annotations);
  return global && shared && type !== 'ExternalName';
}

interface WirePort {
  readonly Protocol: string;
  readonly Port: number;
}
type WirePorts = Record<string, WirePort>;

/**
 * A global and shared service with all its usable backends; nothing for any other. Those of a node that is dead are
 * left out, so that other clusters need not find out themselves. What Cilium's format has no word for stands in fields
 * of its own, which its readers pass over: `terminating` and `notReady`, of the same shape as `backends`.
 */
export function exportService(
  service: Service,
  slices: Iterable<EndpointSlice>,
  origin: Pick<Origin, 'cluster' | 'clusterId'>,
  isDead: (node: string) => boolean = () => false,
): EtcdRow[] {
  if (!isOffered(service)) return [];
  const frontPorts: WirePorts = Object.fromEntries(
    service.ports.map(({ name, protocol, port }) => [name, { Protocol: protocol, Port: port }]),
  );
  const hostnames = new Map<string, string>();
  const zones = new Map<string, object>();
  const { usable, terminating, notReady } = endpointStates([...slices], isDead);
  for (const { endpoint } of usable) {
    if (endpoint.hostname) hostnames.set(endpoint.address, endpoint.hostname);
    if (endpoint.zone)
      zones.set(endpoint.address, {
        zone: endpoint.zone,
        ...(endpoint.forZones.length ? { forZones: endpoint.forZones.map(name => ({ name })) } : {}),
      });
  }
  const value = JSON.stringify({
    cluster: origin.cluster,
    namespace: service.namespace,
    name: service.name,
    frontends: Object.fromEntries(service.clusterIPs.map(address => [address, frontPorts])),
    backends: portsByAddress(usable),
    ...(terminating.length ? { terminating: portsByAddress(terminating) } : {}),
    ...(notReady.length ? { notReady: portsByAddress(notReady) } : {}),
    ...(hostnames.size ? { hostnames: sorted(hostnames) } : {}),
    ...(zones.size ? { zones: sorted(zones) } : {}),
    labels: sorted(Object.entries(service.labels)),
    selector: sorted(Object.entries(service.selector)),
    includeExternal: true,
    shared: true,
    clusterID: origin.clusterId,
  });
  return [{ key: serviceKey(origin.cluster, service.namespace, service.name), value }];
}

/** Address → its ports by name. */
function portsByAddress(candidates: Iterable<Candidate>): Record<string, WirePorts> {
  const found = new Map<string, WirePorts>();
  for (const { slice, endpoint } of candidates) {
    const ports = found.get(endpoint.address) ?? {};
    for (const { name, protocol, port } of slice.ports) ports[name] = { Protocol: protocol, Port: port };
    found.set(endpoint.address, ports);
  }
  return sorted([...found].map(([address, ports]) => [address, sorted(Object.entries(ports))]));
}

/** Keys in order, as Go writes maps: equal states give equal texts. */
function sorted<V>(entries: Iterable<readonly [string, V]>): Record<string, V> {
  return Object.fromEntries([...entries].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)));
}

function isOwn(identity: number, origin: Origin): boolean {
  return identity >= firstAllocatable && mayClaim(identity, origin.clusterId, origin.maxClusters);
}
