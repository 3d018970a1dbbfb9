import type { Endpoint } from './endpoint.ts';

/** An endpoint of a pod that is ready, but for what a test says. */
export const testEndpoint = (fields: Partial<Endpoint> = {}): Endpoint => ({
  id: 7,
  containerId: 'c1',
  ifName: 'eth0',
  netns: '',
  network: 'isthmus',
  hostIfName: 'ist00000000001',
  ifindex: 9,
  ipv4: '10.1.0.9',
  gateway: '10.1.0.1',
  mtu: 1450,
  mac: '02:00:00:00:00:01',
  hostMac: '02:00:00:00:00:02',
  namespace: 'ns',
  podName: 'web',
  podUid: '',
  portMappings: [],
  state: 'ready',
  createdAt: '2026-01-01T00:00:00.000Z',
  ...fields,
});
