import { backendKey } from '../loadbalancer/backend.ts';
import { type Frontend, frontendAddress, sameFrontend } from '../loadbalancer/frontend.ts';
import { derive, input } from '../table/derive.ts';
import type { ReadonlyTable } from '../table/table.ts';
import { type Endpoint, endpointKey, type PortMapping } from './endpoint.ts';
import type { HostAddress } from './endpoint-map.ts';

const LOOPBACK = '127.0.0.1';
const protocols = { tcp: 'TCP', udp: 'UDP', sctp: 'SCTP' } as const;

/**
 * Frontends of the pods' hostPorts, with the index `address`: every address of this node and its loopback, or the
 * one the pod names. Those of loopback are for sockets of the node: a pod that connects to 127.0.0.1 means itself.
 */
export function deriveHostPorts(
  endpoints: ReadonlyTable<Endpoint>,
  hostAddresses: ReadonlyTable<HostAddress>,
): ReadonlyTable<Frontend> {
  return derive<Frontend>({
    name: 'host-ports',
    keyOf: row => `${frontendAddress(row)} ${row.service}`,
    indexes: { address: row => [frontendAddress(row)] },
    equal: sameFrontend,
    inputs: [
      input(endpoints, row => (row.portMappings.length ? [endpointKey(row)] : [])),
      input(hostAddresses, function* () {
        for (const row of endpoints.values()) if (row.portMappings.length) yield endpointKey(row);
      }),
    ],
    compute(key) {
      const endpoint = endpoints.get(key);
      if (endpoint?.state !== 'ready') return [];
      return endpoint.portMappings.flatMap(mapping =>
        addressesOf(mapping, hostAddresses).map(addr => frontend(endpoint, mapping, addr)),
      );
    },
  });
}

function addressesOf(mapping: PortMapping, hostAddresses: ReadonlyTable<HostAddress>): string[] {
  const named = mapping.hostIP ?? '';
  if (named === '' || named === '0.0.0.0' || named === '::')
    return [...Array.from(hostAddresses.values(), row => row.address), LOOPBACK];
  return hostAddresses.has(named) || named.startsWith('127.') ? [named] : [];
}

function frontend(endpoint: Endpoint, mapping: PortMapping, addr: string): Frontend {
  const protocol = protocols[mapping.protocol];
  return {
    addr,
    port: mapping.hostPort,
    protocol,
    scope: 'external',
    kind: 'ExternalIP',
    service: `${endpoint.namespace}/${endpoint.podName}`,
    portName: 'hostPort',
    created: endpoint.createdAt,
    local: false,
    affinityTimeout: 0,
    partial: false,
    backends: [
      {
        key: backendKey(endpoint.ipv4, mapping.containerPort, protocol),
        addr: endpoint.ipv4,
        port: mapping.containerPort,
        protocol,
        cluster: '',
        node: '',
        state: 'active',
      },
    ],
  };
}
