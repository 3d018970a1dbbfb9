/** Many services of a cluster, and the objects that they are. */
import { randomUUID } from 'node:crypto';

/** Services `PREFIX-0` … without selector, each with one EndpointSlice. */
export interface Crowd {
  readonly namespace: string;
  readonly prefix: string;
  readonly services: number;
  /** Of all services together, spread evenly. */
  readonly endpoints: number;
  /** Number of the first ClusterIP in its range: see `clusterIp`. */
  readonly first: number;
}

/** An object, and the key under which the API server keeps it (k8s.io/apiserver, registry storage). */
export interface StoredObject {
  readonly key: string;
  readonly value: object;
}

/** The n-th address of a range as 172.20.0.0/16. */
export function clusterIp(range: string, n: number): string {
  const [a, b] = range.split('.');
  return `${a}.${b}.${n >> 8}.${n & 255}`;
}

/** The lowest n from which so many addresses on are nobody's yet. */
export function firstFree(range: string, used: Iterable<string>, count: number): number {
  const taken = new Set(used);
  let first = 256;
  for (let n = first; n < first + count; n++) if (taken.has(clusterIp(range, n))) first = n + 1;
  return first;
}

/** The n-th endpoint address: nobody's, of 100.64.0.0/10 (RFC 6598). */
export function endpointAddress(n: number): string {
  return `100.${64 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`;
}

export const crowdAddresses = (range: string, { services, first }: Crowd): string[] =>
  Array.from({ length: services }, (_, n) => clusterIp(range, first + n));

/** The objects of each service of a crowd as the API server itself would have written them, ClusterIPs allocated. */
export function* storedObjects(range: string, crowd: Crowd): Generator<StoredObject[]> {
  const { namespace, prefix, services, endpoints, first } = crowd;
  const each = Math.floor(endpoints / services);
  for (let n = 0; n < services; n++) {
    const name = `${prefix}-${n}`;
    const address = clusterIp(range, first + n);
    const backends = Array.from({ length: each }, (_, at) => endpointAddress(first * each + n * each + at));
    yield [
      {
        key: `/registry/services/specs/${namespace}/${name}`,
        value: stored(serviceObject(name, address), namespace),
      },
      {
        key: `/registry/ipaddresses/${address}`,
        value: stored({
          apiVersion: 'networking.k8s.io/v1',
          kind: 'IPAddress',
          metadata: {
            name: address,
            labels: {
              'ipaddress.kubernetes.io/ip-family': 'IPv4',
              'ipaddress.kubernetes.io/managed-by': 'ipallocator.k8s.io',
            },
          },
          spec: { parentRef: { resource: 'services', namespace, name } },
        }),
      },
      {
        key: `/registry/endpointslices/${namespace}/${name}`,
        value: stored(sliceObject(name, backends), namespace),
      },
    ];
  }
}

interface ApiObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly labels?: Readonly<Record<string, string>> };
  readonly spec?: object;
}

export function serviceObject(name: string, clusterIP: string): ApiObject {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name },
    spec: {
      type: 'ClusterIP',
      clusterIP,
      clusterIPs: [clusterIP],
      ipFamilies: ['IPv4'],
      ipFamilyPolicy: 'SingleStack',
      internalTrafficPolicy: 'Cluster',
      sessionAffinity: 'None',
      ports: [{ name: 'p', port: 80, protocol: 'TCP', targetPort: 8080 }],
    },
  };
}

export function sliceObject(name: string, addresses: readonly string[]): ApiObject {
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name, labels: { 'kubernetes.io/service-name': name } },
    ...{ addressType: 'IPv4', endpoints: addresses.map(endpoint) },
    ...{ ports: [{ name: 'p', port: 8080, protocol: 'TCP' }] },
  };
}

export const endpoint = (address: string): object => ({
  addresses: [address],
  conditions: { ready: true, serving: true, terminating: false },
});

function stored(object: ApiObject, namespace?: string): object {
  const creationTimestamp = new Date().toISOString().replace(/\.\d+Z$/, 'Z');
  return {
    ...object,
    metadata: { ...object.metadata, ...(namespace && { namespace }), uid: randomUUID(), creationTimestamp },
  };
}
