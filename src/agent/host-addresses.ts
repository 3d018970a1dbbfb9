/** The addresses of this node, kept up to date: what is sent to them is the node's own. */
import { isIP } from 'node:net';
import { listAddresses } from '../datapath/link-address.ts';
import { watchLinks } from '../datapath/link-watch.ts';
import type { Netlink } from '../datapath/netlink.ts';
import { type ReadonlyTable, Table } from '../table/table.ts';
import type { HostAddress } from './endpoint-map.ts';

/** An address of the node, and the device that has it. */
export interface DeviceAddress extends HostAddress {
  readonly ifindex: number;
  /** Position in the kernel's list, where primary addresses are first. */
  readonly place: number;
  /** Whether others than the neighbours on one link can answer to it. */
  readonly global: boolean;
}

/**
 * All of `families` but those of loopback and, of IPv6, of one link. Rows change within a tenth of a second of the
 * kernel's.
 */
export function watchHostAddresses(
  netlink: Netlink,
  signal: AbortSignal,
  families: readonly (4 | 6)[] = [4, 6],
): ReadonlyTable<DeviceAddress> {
  const table = new Table<DeviceAddress>({
    name: 'host-addresses',
    keyOf: row => row.address,
    indexes: { device: row => [String(row.ifindex)] },
    equal: (a, b) => a.ifindex === b.ifindex && a.place === b.place && a.global === b.global,
  });
  const list = (): void => {
    const rows = listAddresses(netlink).filter(
      ({ address, scope }) =>
        families.some(family => isIP(address) === family) &&
        !address.startsWith('127.') &&
        !(isIP(address) === 6 && scope !== 'universe'),
    );
    table.replace(
      rows.map(({ address, ifindex, scope }, place) => ({
        address,
        ifindex,
        place,
        global: scope === 'universe',
      })),
    );
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
