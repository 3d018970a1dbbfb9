import { PROXY_NAME_LABEL, type Service, serviceKey } from '../api/service.ts';
import { format, parse } from '../datapath/address.ts';
import { derive, input } from '../table/derive.ts';
import type { ReadonlyTable } from '../table/table.ts';

/** An address that is a service's on this node: nothing sent to it may leave the node. */
export interface ServiceAddress {
  readonly address: string;
}

/**
 * ClusterIPs and the addresses of load balancers, each once. externalIPs are not among them: they may be those of a
 * machine with other ports of its own.
 */
export function deriveServiceAddresses(services: ReadonlyTable<Service>): ReadonlyTable<ServiceAddress> {
  const claims = derive<ServiceAddress & { readonly service: string }>({
    name: 'service-address-claims',
    keyOf: row => `${row.address} ${row.service}`,
    indexes: { address: row => [row.address] },
    equal: () => true,
    inputs: [input(services, row => [serviceKey(row)])],
    compute(key) {
      const service = services.get(key);
      if (!service || PROXY_NAME_LABEL in service.labels) return [];
      return [...new Set([...service.clusterIPs, ...service.loadBalancerIPs])].map(address => ({
        address,
        service: key,
      }));
    },
  });
  return derive<ServiceAddress>({
    name: 'service-addresses',
    keyOf: row => row.address,
    equal: () => true,
    inputs: [input(claims, row => [row.address])],
    compute(address) {
      for (const _ of claims.by('address', address)) return [{ address }];
      return [];
    },
  });
}

/** The row of bpf/types.h. */
export interface ServiceAddressRow {
  readonly key: { readonly addr: Uint8Array };
  readonly value: { readonly pad: number };
}

export const serviceAddressKey = (address: string): ServiceAddressRow['key'] => ({ addr: parse(address) });
export const serviceAddressRow = ({ address }: ServiceAddress): ServiceAddressRow => ({
  key: serviceAddressKey(address),
  value: { pad: 0 },
});
/** The address of a key found in the map. */
export const addressOfServiceKey = (key: ServiceAddressRow['key']): string => format(key.addr);
