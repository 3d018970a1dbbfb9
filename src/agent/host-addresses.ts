/** The addresses of this node, kept up to date: what is sent to them is the node's own. */
import { isIP } from 'node:net';
import { listAddresses } from '../datapath/link-address.ts';
import { watchLinks } from '../datapath/link-watch.ts';
import type { Netlink } from '../datapath/netlink.ts';
import { type ReadonlyTable, Table } from '../table/table.ts';
import type { HostAddress } from './endpoint-map.ts';

/**
 * All of `families` but those of loopback and, of IPv6, of one link. Rows change within a tenth of a second of the
 * kernel's.
 */
export function watchHostAddresses(
  netlink: Netlink,
  signal: AbortSignal,
  families: readonly (4 | 6)[] = [4, 6],
): ReadonlyTable<HostAddress> {
  const table = new Table<HostAddress>({
    name: 'host-addresses',
    keyOf: row => row.address,
    equal: (a, b) => a.address === b.address,
  });
  const list = (): void => {
    const rows = listAddresses(netlink).filter(
      ({ address, scope }) =>
        families.some(family => isIP(address) === family) &&
        !address.startsWith('127.') &&
        !(isIP(address) === 6 && scope !== 'universe'),
    );
    table.replace(rows.map(({ address }) => ({ address })));
  };
  // One listing for however many notifications came at once.
  let stale = false;
  watchLinks({
    signal,
    onEvent(event) {
      if (event.type === 'link' || stale) return;
      stale = true;
      queueMicrotask(() => {
        stale = false;
        if (!signal.aborted) list();
      });
    },
  });
  list();
  table.markSynced();
  return table;
}
