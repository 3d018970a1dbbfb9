/** The IPv4 addresses of this node, kept up to date: what is sent to them is the node's own. */
import { listAddresses } from '../datapath/link-address.ts';
import { watchLinks } from '../datapath/link-watch.ts';
import type { Netlink } from '../datapath/netlink.ts';
import { type ReadonlyTable, Table } from '../table/table.ts';
import type { HostAddress } from './endpoint-map.ts';

/** All but 127.0.0.0/8. Rows change within a tenth of a second of the kernel's. */
export function watchHostAddresses(netlink: Netlink, signal: AbortSignal): ReadonlyTable<HostAddress> {
  const table = new Table<HostAddress>({
    name: 'host-addresses',
    keyOf: row => row.address,
    equal: (a, b) => a.address === b.address,
  });
  const list = (): void => {
    const rows = listAddresses(netlink).filter(
      each => !each.address.includes(':') && !each.address.startsWith('127.'),
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
