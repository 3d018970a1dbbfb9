import { BlockList, isIPv6 } from 'node:net';
import { splitPrefix } from '../datapath/netlink-address.ts';
import { addressesOf, type Endpoint } from './endpoint.ts';

const NAMED = 3;

type AddressedPod = Pick<Endpoint, 'namespace' | 'podName' | 'ipv4' | 'gateway' | 'ipv6' | 'gateway6'>;

/**
 * One sentence where pods have addresses outside of the node's pod CIDRs: a Node that was deleted and registers again
 * gets others, and its own processes have no way to the pods of before. Pure.
 */
export function strayPodWarnings(endpoints: Iterable<AddressedPod>, podCidrs: readonly string[]): string[] {
  const inside = new BlockList();
  for (const cidr of podCidrs) {
    const { address, length } = splitPrefix(cidr);
    inside.addSubnet(address, length, isIPv6(address) ? 'ipv6' : 'ipv4');
  }
  const stray = [...endpoints].filter(endpoint =>
    addressesOf(endpoint).some(({ address }) => !inside.check(address, isIPv6(address) ? 'ipv6' : 'ipv4')),
  );
  if (stray.length === 0) return [];
  const names = stray.slice(0, NAMED).map(each => `${each.namespace}/${each.podName}`);
  const more = stray.length > NAMED ? ` and ${stray.length - NAMED} more` : '';
  return [
    `pods with addresses outside of the node's pod CIDR ${podCidrs.join(', ')}: ${names.join(', ')}${more}; the Node was registered anew, and does not reach them: delete them`,
  ];
}
