import { isIPv4 } from 'node:net';
import { type LinkAddress, listAddresses } from '../datapath/link-address.ts';
import { watchLinks } from '../datapath/link-watch.ts';
import type { Netlink } from '../datapath/netlink.ts';
import { type ReadonlyTable, Table } from '../table/table.ts';
import type { HostAddress } from './endpoint-map.ts';

/** The node's own addresses, on whatever device, as they come and go; loopback's are nobody else's business. */
export function followHostAddresses(netlink: Netlink, signal: AbortSignal): ReadonlyTable<HostAddress> {
  const table = new Table<HostAddress>({
    name: 'host-addresses',
    keyOf: row => row.address,
    equal: () => true,
  });
  const read = (): void =>
    table.replace(
      listAddresses(netlink)
        .filter(isOurs)
        .map(({ address }) => ({ address })),
    );
  // Watched first: what changes while the list is read is read again.
  watchLinks({
    signal,
    onEvent(event) {
      if (event.type === 'address' && isOurs(event.address)) table.upsert({ address: event.address.address });
      // An address may be on two devices: only a new list tells whether it is gone.
      else if (event.type === 'address-gone' || event.type === 'lost') read();
    },
  });
  read();
  table.markSynced();
  return table;
}

const isOurs = ({ address, scope }: LinkAddress): boolean =>
  isIPv4(address) && scope !== 'host' && !address.startsWith('127.');
