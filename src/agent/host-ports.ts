import { isIPv4, isIPv6 } from 'node:net';
import { backendKey } from '../loadbalancer/backend.ts';
import { BackendList } from '../loadbalancer/backend-list.ts';
import { type Frontend, frontendAddress, sameFrontend } from '../loadbalancer/frontend.ts';
import { derive, input } from '../table/derive.ts';
import type { ReadonlyTable } from '../table/table.ts';
import { type Endpoint, endpointKey, type PortMapping } from './endpoint.ts';
import type { HostAddress } from './endpoint-map.ts';

const LOOPBACK = ['127.0.0.1', '::1'] as const;
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
        addressesOf(mapping, hostAddresses).flatMap(addr => {
          const backend = isIPv6(addr) ? endpoint.ipv6 : endpoint.ipv4;
          return backend === undefined ? [] : [frontend(endpoint, mapping, addr, backend)];
        }),
      );
    },
  });
}

function addressesOf(mapping: PortMapping, hostAddresses: ReadonlyTable<HostAddress>): string[] {
  const named = mapping.hostIP ?? '';
  const all = [...Array.from(hostAddresses.values(), row => row.address), ...LOOPBACK];
  if (named === '') return all;
  if (named === '0.0.0.0') return all.filter(isIPv4);
  if (named === '::') return all.filter(isIPv6);
  return hostAddresses.has(named) || named.startsWith('127.') || named === '::1' ? [named] : [];
}

function frontend(endpoint: Endpoint, mapping: PortMapping, addr: string, backend: string): Frontend {
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
    backends: BackendList.of([
      {
        key: backendKey(backend, mapping.containerPort, protocol),
        addr: backend,
        port: mapping.containerPort,
        protocol,
        cluster: '',
        node: '',
        state: 'active',
      },
    ]),
  };
}
