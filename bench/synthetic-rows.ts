/** What the mesh etcd of a cluster that does not exist would hold. Pure. */
import { type Kind, objectPrefix } from '../src/clustermesh/layout.ts';
import { formatAddress } from '../src/clustermesh/values.ts';
import type { EtcdRow } from '../src/kvstore/target.ts';

/** How large a cluster is. */
export interface Shape {
  readonly name: string;
  /** 2 to 254; it has the pod range 10.ID.0.0/16. */
  readonly id: number;
  /** 1 to 256; each has its share of the endpoints, 250 at most. */
  readonly nodes: number;
  readonly endpoints: number;
  readonly services: number;
  /** Namespace of everything. */
  readonly namespace: string;
  /** Keys as a mirror copies them, below cilium/cache. */
  readonly cached: boolean;
}

const perIdentity = 10;
const key = ({ name, cached }: Shape, kind: Kind, rest: string): string =>
  objectPrefix(kind, name, cached) + rest;

/** Address of the n-th endpoint. */
export function endpointAddress({ id, nodes }: Pick<Shape, 'id' | 'nodes'>, n: number): string {
  return `10.${id}.${n % nodes}.${Math.floor(n / nodes) + 1}`;
}

/** Of 100.64.0.0/10 (RFC 6598): nobody's. */
function nodeAddress({ id }: Shape, n: number): string {
  const at = id * 256 + n;
  return `100.${64 + (at >> 15)}.${(at >> 7) & 255}.${(at & 127) + 1}`;
}

export const identityOf = ({ id }: Pick<Shape, 'id'>, n: number): number => id * 65_536 + 300 + n;

/** Every key of each kind. */
export function* rowsOf(shape: Shape, kind: Kind): Generator<EtcdRow> {
  if (kind === 'nodes') for (let n = 0; n < shape.nodes; n++) yield nodeRow(shape, n);
  if (kind === 'identities')
    for (let n = 0; n < shape.endpoints / perIdentity; n++) yield identityRow(shape, n);
  if (kind === 'ip') for (let n = 0; n < shape.endpoints; n++) yield endpointRow(shape, n);
  if (kind === 'services') for (let n = 0; n < shape.services; n++) yield serviceRow(shape, n);
}

function nodeRow(shape: Shape, n: number): EtcdRow {
  const { name, id } = shape;
  const value = {
    Name: `node-${n}`,
    Cluster: name,
    ClusterID: id,
    IPAddresses: [
      { Type: 'InternalIP', IP: nodeAddress(shape, n) },
      { Type: 'CiliumInternalIP', IP: `10.${id}.${n}.254` },
    ],
    IPv4AllocCIDR: { IP: `10.${id}.${n}.0`, Mask: '////AA==' },
    Labels: { 'kubernetes.io/hostname': `node-${n}` },
  };
  return { key: key(shape, 'nodes', value.Name), value: JSON.stringify(value) };
}

function identityRow(shape: Shape, n: number): EtcdRow {
  const labels = [
    `k8s:app=syn-${n}`,
    `k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=${shape.namespace}`,
    `k8s:io.cilium.k8s.policy.cluster=${shape.name}`,
    'k8s:io.cilium.k8s.policy.serviceaccount=default',
    `k8s:io.kubernetes.pod.namespace=${shape.namespace}`,
  ];
  return { key: key(shape, 'identities', String(identityOf(shape, n))), value: `${labels.join(';')};` };
}

/** The n-th service: a tenth, or whatever its part is, of the endpoints. */
function serviceRow(shape: Shape, n: number): EtcdRow {
  const each = Math.floor(shape.endpoints / shape.services);
  const backends = Array.from({ length: each }, (_, i) => endpointAddress(shape, n * each + i));
  return globalService(shape, `syn-${n}`, `10.95.${n >> 8}.${n & 255}`, backends);
}

/** A global service of port 80 with these backends. */
export function globalService(
  shape: Shape,
  name: string,
  address: string,
  backends: readonly string[],
): EtcdRow {
  const ports = (port: number): object => ({ p: { Protocol: 'TCP', Port: port } });
  const target = ports(8080);
  const value = {
    cluster: shape.name,
    namespace: shape.namespace,
    name,
    frontends: { [address]: ports(80) },
    backends: Object.fromEntries(backends.map(each => [each, target])),
    labels: {},
    selector: { app: name },
    includeExternal: true,
    shared: true,
    clusterID: shape.id,
  };
  return { key: key(shape, 'services', `${shape.namespace}/${name}`), value: JSON.stringify(value) };
}

function endpointRow(shape: Shape, n: number): EtcdRow {
  return addressRow(shape, endpointAddress(shape, n), n % shape.nodes, Math.floor(n / perIdentity));
}

/** An address of a pod, on the node of that number and with the identity of that number. */
export function addressRow(shape: Shape, address: string, node: number, identity: number): EtcdRow {
  const value = formatAddress({
    address,
    nodeIp: nodeAddress(shape, node),
    identity: identityOf(shape, identity),
    encryptionKey: 0,
    namespace: shape.namespace,
    pod: `syn-${address.replaceAll('.', '-')}`,
    serviceAccount: 'default',
  });
  return { key: key(shape, 'ip', address), value };
}
