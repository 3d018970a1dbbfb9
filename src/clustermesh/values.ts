import { isIP, isIPv4 } from 'node:net';
import type { NodeRow } from '../api/crds/cilium-node.ts';
import { type MaxClusters, mayClaim, reserved } from '../api/identity-number.ts';
import { type Labels, labelNames, parseLabels } from '../api/labels.ts';
import { regionLabel, routingAnnotation } from '../api/node-traits.ts';
import { canonicalPrefix } from '../api/prefix.ts';
import { unreachableAnnotation } from '../api/unreachable.ts';
import type { RemoteBackends, RemotePart, RemoteService } from '../loadbalancer/remote-service.ts';
import { addressSchema, plainAddress } from './address-value.ts';
import { BadValue, parseJson } from './bad-value.ts';
import { cidrText, goCidr, maskLength } from './cidr.ts';
import { nodeSchema, plainNode } from './node-value.ts';
import type { RemoteEndpoint, RemoteIdentity, RemoteNode } from './rows.ts';
import { plainService, portsOf, type ServiceValue, serviceSchema } from './service-value.ts';

/**
 * Values of a mesh etcd to rows and back, in Cilium's format. Every reader checks that the value belongs to
 * the cluster it was read from and to the key it stands under. Pure; @throws BadValue.
 */
export interface Origin {
  readonly cluster: string;
  readonly clusterId: number;
  readonly maxClusters: MaxClusters;
}

export function parseNode(key: string, rest: string, value: string, origin: Origin): RemoteNode {
  const node = parseJson(key, value, nodeSchema, plainNode);
  expect(key, 'Cluster', node.Cluster, origin.cluster);
  expect(key, 'Name', node.Name, rest);
  expect(key, 'ClusterID', node.ClusterID, origin.clusterId);
  const addresses = (node.IPAddresses ?? []).map(({ Type, IP }) => ({
    type: Type,
    ip: Type.endsWith('IP') ? canonicalAddress(key, `IPAddresses (${Type})`, IP) : IP,
  }));
  const ranges = {
    IPv4AllocCIDR: [node.IPv4AllocCIDR],
    IPv4SecondaryAllocCIDRs: node.IPv4SecondaryAllocCIDRs ?? [],
    IPv6AllocCIDR: [node.IPv6AllocCIDR],
    IPv6SecondaryAllocCIDRs: node.IPv6SecondaryAllocCIDRs ?? [],
  };
  const podCidrs = Object.entries(ranges).flatMap(([field, list]) =>
    list.flatMap(each => {
      if (each === null || each === undefined) return [];
      const text = cidrText(each);
      const found = text && !isMapped(text) ? canonicalPrefix(text) : undefined;
      if (found === undefined) throw new BadValue(key, field, each, 'a prefix');
      return [found];
    }),
  );
  return {
    cluster: origin.cluster,
    clusterId: origin.clusterId,
    name: node.Name,
    addresses,
    podCidrs,
    region: node.Labels[regionLabel] ?? '',
    routing: node.Annotations[routingAnnotation] ?? '',
  };
}

/** The value of a node of the own cluster. */
export function formatNode(node: NodeRow, origin: Pick<Origin, 'cluster' | 'clusterId'>): string {
  const v4 = node.podCidrs.filter(each => !each.includes(':')).map(goCidr);
  const v6 = node.podCidrs.filter(each => each.includes(':')).map(goCidr);
  const secondary = (list: readonly object[]): readonly object[] | null =>
    list.length > 1 ? list.slice(1) : null;
  return JSON.stringify({
    Name: node.name,
    Cluster: origin.cluster,
    IPAddresses: node.addresses.map(({ type, ip }) => ({ Type: type, IP: ip })),
    IPv4AllocCIDR: v4[0] ?? null,
    IPv4SecondaryAllocCIDRs: secondary(v4),
    IPv6AllocCIDR: v6[0] ?? null,
    IPv6SecondaryAllocCIDRs: secondary(v6),
    IPv4HealthIP: node.healthIp,
    IPv6HealthIP: '',
    IPv4IngressIP: node.ingressIp,
    IPv6IngressIP: '',
    ClusterID: origin.clusterId,
    Source: 'custom-resource',
    EncryptionKey: node.encryptionKey,
    Labels: node.labels,
    Annotations: exported(node.annotations),
    WireguardPubKey: node.annotations[wireguardAnnotation] ?? '',
    BootID: node.bootId,
  });
}

/** What a node says of its neighbours is its own cluster's business. */
function exported(annotations: NodeRow['annotations']): NodeRow['annotations'] {
  if (!(unreachableAnnotation in annotations)) return annotations;
  const { [unreachableAnnotation]: _, ...rest } = annotations;
  return rest;
}

/** Where the agent of a node keeps its WireGuard public key. */
const wireguardAnnotation = 'network.cilium.io/wg-pub-key';

/** @returns undefined for a service that is not shared: it has no backends for others */
export const parseService = (
  key: string,
  rest: string,
  value: string,
  origin: Origin,
): RemoteService | undefined =>
  serviceRow(key, rest, parseJson(key, value, serviceSchema, plainService), origin);

/** `parts`: backends of the fields that the service itself says nothing of, since they are in parts already. */
export function serviceRow(
  key: string,
  rest: string,
  service: ServiceValue,
  origin: Origin,
  parts: ReadonlyMap<string, RemoteBackends> = noParts,
): RemoteService | undefined {
  expect(key, 'cluster', service.cluster, origin.cluster);
  expect(key, 'namespace/name', `${service.namespace}/${service.name}`, rest);
  expect(key, 'clusterID', service.clusterID, origin.clusterId);
  for (const address of Object.keys(service.frontends ?? {})) canonicalAddress(key, 'frontends', address);
  const named = (field: 'backends' | 'terminating' | 'notReady'): RemoteBackends | undefined => {
    const value = service[field];
    const part = value ? backendsOf(key, field, value) : undefined;
    return parts.get(field) ?? (part && (Object.keys(part).length ? [part] : []));
  };
  const [backends, terminating, notReady] = [named('backends'), named('terminating'), named('notReady')];
  if (!service.shared) return undefined;
  return {
    cluster: origin.cluster,
    clusterId: origin.clusterId,
    namespace: service.namespace,
    name: service.name,
    backends: backends ?? [],
    ...(terminating && { terminating }),
    ...(notReady && { notReady }),
    hostnames: service.hostnames ?? undefined,
  };
}

const noParts: ReadonlyMap<string, RemoteBackends> = new Map();

/** Some backends of a service, or all. @throws BadValue */
export function backendsOf(key: string, field: string, value: Readonly<Record<string, unknown>>): RemotePart {
  // Without a prototype it is a hash table: of any other object the engine would keep a shape for each set of addresses.
  const found: Record<string, RemotePart[string]> = Object.create(null);
  for (const address of Object.keys(value)) {
    const named = portsOf(key, `${field}.${address}`, value[address]);
    found[canonicalAddress(key, field, address)] = named;
  }
  return found;
}

export function parseIdentity(key: string, rest: string, value: string, origin: Origin): RemoteIdentity {
  const identity = /^[1-9]\d{0,8}$/.test(rest) ? Number(rest) : Number.NaN;
  if (Number.isNaN(identity)) throw new BadValue(key, 'number', rest, 'a decimal identity');
  if (identity < 256 || !mayClaim(identity, origin.clusterId, origin.maxClusters))
    throw new BadValue(key, 'number', identity, `an identity of cluster ID ${origin.clusterId}`);
  if (value === '') throw new BadValue(key, '', value, 'labels');
  let labels: Labels;
  try {
    labels = parseLabels(value);
  } catch (error) {
    throw new BadValue(key, '', value, error instanceof Error ? error.message : 'labels');
  }
  expect(key, labelNames.cluster, labels[`k8s:${labelNames.cluster}`], origin.cluster);
  return { cluster: origin.cluster, identity, text: value };
}

export function parseAddress(key: string, rest: string, value: string, origin: Origin): RemoteEndpoint {
  const found = parseJson(key, value, addressSchema, plainAddress);
  canonicalAddress(key, 'IP', found.IP);
  const family = isIP(found.IP) === 4 ? 4 : 6;
  let prefix = found.IP;
  if (found.Mask) {
    const length = maskLength(found.Mask, family);
    if (length === undefined) throw new BadValue(key, 'Mask', found.Mask, 'a mask');
    prefix = `${found.IP}/${length}`;
  }
  expect(key, 'IP and Mask', prefix, rest);
  const nodeIp = found.HostIP === '' ? '' : canonicalAddress(key, 'HostIP', found.HostIP);
  if (!mayClaim(found.ID, origin.clusterId, origin.maxClusters))
    throw new BadValue(key, 'ID', found.ID, `an identity of cluster ID ${origin.clusterId}`);
  return {
    cluster: origin.cluster,
    prefix: canonicalPrefix(prefix)!,
    nodeIp,
    // Another cluster's host is a remote node here.
    identity: found.ID === reserved.host ? reserved.remoteNode : found.ID,
  };
}

/** An address of a pod of the own cluster. */
export interface ExportedAddress {
  readonly address: string;
  readonly nodeIp: string;
  readonly identity: number;
  readonly encryptionKey: number;
  readonly namespace: string;
  readonly pod: string;
  readonly serviceAccount: string;
}

export function formatAddress(row: ExportedAddress): string {
  return JSON.stringify({
    IP: row.address,
    Mask: null,
    HostIP: row.nodeIp,
    ID: row.identity,
    Key: row.encryptionKey,
    Metadata: '',
    ...(row.namespace ? { K8sNamespace: row.namespace } : {}),
    ...(row.pod ? { K8sPodName: row.pod } : {}),
    ...(row.serviceAccount ? { K8sServiceAccount: row.serviceAccount } : {}),
  });
}

/**
 * The one text of an address, as tables and maps are keyed. An IPv4 address in IPv6 clothes (::ffff:10.1.0.9) would be
 * another key here and the same row of a map there; one with a zone means something on its own link only.
 */
export function canonicalAddress(key: string, field: string, text: string): string {
  if (isIPv4(text)) return text;
  const prefix =
    isIP(text) !== 0 && !text.includes('%') && !isMapped(text) ? canonicalPrefix(text) : undefined;
  if (prefix === undefined) throw new BadValue(key, field, text, 'an IP address');
  return prefix.slice(0, prefix.indexOf('/'));
}

const isMapped = (text: string): boolean => canonicalPrefix(text)?.startsWith('::ffff:') ?? false;

/** @throws BadValue where a field is not what the key, or the cluster's configuration, says */
export function expect(key: string, field: string, found: unknown, expected: string | number): void {
  if (found !== expected) throw new BadValue(key, field, found, JSON.stringify(expected));
}
