import type { EndpointSlice } from '../api/endpoint-slice.ts';
import type { Service } from '../api/service.ts';

/** A ClusterIP service `ns/<name>` with one port, for tests. */
export const service = (name: string, ip: string, fields: Partial<Service> = {}): Service => ({
  namespace: 'ns',
  name,
  uid: name,
  created: '2026-01-01T00:00:00Z',
  labels: {},
  annotations: {},
  type: 'ClusterIP',
  clusterIPs: [ip],
  headless: false,
  externalIPs: [],
  loadBalancerIPs: [],
  loadBalancerClass: '',
  selector: {},
  ports: [{ name: '', protocol: 'TCP', port: 80, nodePort: 0 }],
  affinityTimeout: 0,
  externalTrafficPolicy: 'Cluster',
  internalTrafficPolicy: 'Cluster',
  ipFamilies: [],
  trafficDistribution: '',
  healthCheckNodePort: 0,
  publishNotReadyAddresses: false,
  loadBalancerSourceRanges: [],
  ...fields,
});

/** Its slice, with an endpoint that is ready for each address. */
export const slice = (name: string, ...addresses: string[]): EndpointSlice => ({
  namespace: 'ns',
  name: `${name}-1`,
  service: `ns/${name}`,
  addressType: 'IPv4',
  ports: [{ name: '', protocol: 'TCP', port: 8080 }],
  endpoints: addresses.map(address => ({
    address,
    ready: true,
    serving: true,
    terminating: false,
    node: 'n1',
    hostname: '',
    zone: '',
    forZones: [],
    forNodes: [],
  })),
});
