/** The objects by which a cluster has a service of the clusterset, as they are to be. Pure. */
import { createHash } from 'node:crypto';
import {
  type EndpointSlice,
  MANAGED_BY_LABEL,
  SERVICE_NAME_LABEL,
  type SliceEndpoint,
} from '../api/endpoint-slice.ts';
import { type Resource, resources, typeOf } from '../kube/resource.ts';
import { derivedName } from './derived-name.ts';
import type { ExportedPort, IpFamily } from './exported-service.ts';
import { type MergedService, mergedPortOf } from './merge-exports.ts';

/** On an import: the Service that balances it (GEP-1748). */
export const DERIVED_SERVICE_ANNOTATION = 'multicluster.kubernetes.io/derived-service';
/** On a derived Service and its slices: the import they are for, and whose endpoints a slice has (KEP-1645). */
export const MCS_SERVICE_LABEL = 'multicluster.kubernetes.io/service-name';
export const SOURCE_CLUSTER_LABEL = 'multicluster.kubernetes.io/source-cluster';
/** Who keeps the slices of this cluster's own endpoints of an import; Cilium's name for it. */
export const MIRRORED_SLICES = 'endpointslice-local-mcsapi-controller.cilium.io';

export interface Named {
  readonly namespace: string;
  readonly name: string;
}

/** Families an import can have here. Exporters that do not say theirs have all that we have. */
export const supportedFamilies = (merged: MergedService, own: readonly IpFamily[]): readonly IpFamily[] =>
  merged.ipFamilies.length ? merged.ipFamilies.filter(each => own.includes(each)) : own;

/** Addresses of the derived Service that are the import's, in the order of its families. */
export const clusterSetIps = (clusterIPs: readonly string[], families: readonly IpFamily[]): string[] =>
  families.flatMap(family => clusterIPs.find(each => each.includes(':') === (family === 'IPv6')) ?? []);

const affinityOf = ({ sessionAffinity, affinityTimeout }: MergedService): object => ({
  sessionAffinity,
  ...(affinityTimeout === undefined
    ? {}
    : { sessionAffinityConfig: { clientIP: { timeoutSeconds: affinityTimeout } } }),
});
const policyOf = ({ internalTrafficPolicy, trafficDistribution }: MergedService): object => ({
  internalTrafficPolicy,
  ...(trafficDistribution === undefined ? {} : { trafficDistribution }),
});
const portOf = ({ name, protocol, appProtocol, port }: ExportedPort) => ({
  ...(name ? { name } : {}),
  protocol,
  ...(appProtocol ? { appProtocol } : {}),
  port,
});

export function serviceImportObject(
  kind: Resource,
  { namespace, name }: Named,
  merged: MergedService,
  families: readonly IpFamily[],
  derived: { readonly clusterIPs: readonly string[] } | undefined,
) {
  const known = families.length ? families : merged.ipFamilies;
  return {
    ...typeOf(kind),
    metadata: {
      name,
      namespace,
      labels: merged.labels,
      annotations: {
        ...merged.annotations,
        ...(derived ? { [DERIVED_SERVICE_ANNOTATION]: derivedName(namespace, name) } : {}),
      },
    },
    spec: {
      type: merged.type,
      ports: merged.ports.map(portOf),
      ips: derived && merged.type === 'ClusterSetIP' ? clusterSetIps(derived.clusterIPs, families) : [],
      ...(known.length ? { ipFamilies: [...known] } : {}),
      ...affinityOf(merged),
      ...policyOf(merged),
    },
  };
}

/** A Service without a selector: it is global, so that the backends are those of all clusters that export. */
export function derivedServiceObject(
  importKind: Resource,
  { namespace, name, uid }: Named & { readonly uid: string },
  merged: MergedService,
) {
  return {
    ...typeOf(resources.services),
    metadata: {
      name: derivedName(namespace, name),
      namespace,
      labels: { ...merged.labels, [MCS_SERVICE_LABEL]: name },
      annotations: { ...merged.annotations, 'service.cilium.io/global': 'true' },
      ownerReferences: [{ ...typeOf(importKind), name, uid, controller: true }],
    },
    spec: {
      type: 'ClusterIP',
      ...(merged.type === 'Headless' ? { clusterIP: 'None' } : {}),
      // The families of exporters come and go, and those of a Service cannot: it has all, the import says which count.
      ipFamilyPolicy: 'PreferDualStack',
      ports: merged.ports.map(portOf),
      ...affinityOf(merged),
      ...policyOf(merged),
    },
  };
}

/**
 * One slice of an exported Service as a slice of the derived one, which exports it to other clusters in turn. Ports
 * get the names that the import has for them; one that the import does not have is left out, and a slice without any.
 */
export function mirroredSliceObject(
  cluster: string,
  { namespace, name }: Named,
  derived: {
    readonly uid: string;
    readonly labels: Readonly<Record<string, string>>;
    readonly headless: boolean;
  },
  slice: EndpointSlice,
  ports: { readonly merged: MergedService; readonly own: readonly ExportedPort[] },
) {
  const renamed = slice.ports.flatMap(({ name: portName, protocol, port }) => {
    const own = ports.own.find(each => each.name === portName);
    const found = own && mergedPortOf(ports.merged, own);
    return found ? [{ name: found.name, protocol, port }] : [];
  });
  if (slice.ports.length && renamed.length === 0) return undefined;
  const service = derivedName(namespace, name);
  const suffix = createHash('sha256').update(slice.name).digest('hex').slice(0, 10);
  return {
    ...typeOf(resources.endpointSlices),
    metadata: {
      name: `${service}-${suffix}`,
      namespace,
      labels: {
        ...derived.labels,
        ...(derived.headless ? { 'service.kubernetes.io/headless': '' } : {}),
        [SERVICE_NAME_LABEL]: service,
        [MANAGED_BY_LABEL]: MIRRORED_SLICES,
        [MCS_SERVICE_LABEL]: name,
        [SOURCE_CLUSTER_LABEL]: cluster,
      },
      ownerReferences: [{ ...typeOf(resources.services), name: service, uid: derived.uid, controller: true }],
    },
    addressType: slice.addressType,
    ports: renamed,
    endpoints: slice.endpoints.map(endpointObject),
  };
}

function endpointObject(endpoint: SliceEndpoint) {
  const { address, ready, serving, terminating, hostname, node, zone, forZones, forNodes } = endpoint;
  const named = (names: readonly string[]) => names.map(name => ({ name }));
  const hints = {
    ...(forZones.length ? { forZones: named(forZones) } : {}),
    ...(forNodes.length ? { forNodes: named(forNodes) } : {}),
  };
  return {
    addresses: [address],
    conditions: { ready, serving, terminating },
    ...(hostname ? { hostname } : {}),
    ...(node ? { nodeName: node } : {}),
    ...(zone ? { zone } : {}),
    ...(Object.keys(hints).length ? { hints } : {}),
  };
}
