import type { Netlink } from '../datapath/netlink.ts';
import { listRoutes, PROTOCOL_ISTHMUS, type Route, TABLE_MAIN } from '../datapath/route.ts';
import { watchRoutes } from '../datapath/route-watch.ts';
import { type ReadonlyTable, Table } from '../table/table.ts';
import type { KernelRoute, RoutingMode } from './paths.ts';

/**
 * What others wrote into the main routing table, default routes left out, kept up to date. In tunnel mode nobody asks,
 * and nothing is followed.
 */
export function watchKernelRoutes(
  netlink: Netlink,
  mode: RoutingMode,
  ownDevices: readonly number[],
  signal: AbortSignal,
): ReadonlyTable<KernelRoute> {
  const table = new Table<KernelRoute>({
    name: 'kernel-routes',
    keyOf: row => row.prefix,
    equal: (a, b) => a.onLink === b.onLink && a.ifindex === b.ifindex,
  });
  const list = (): void => {
    const rows = new Map<string, KernelRoute>();
    for (const route of listRoutes(netlink, { table: TABLE_MAIN })) {
      if (!isWayOut(route) || ownDevices.includes(route.ifindex)) continue;
      const { prefix, ifindex } = route;
      // Of several with one prefix the kernel lists the preferred one first.
      if (!rows.has(prefix))
        rows.set(prefix, { prefix, ifindex, onLink: route.via === undefined && route.scope === 'link' });
    }
    table.replace([...rows.values()]);
  };
  if (mode !== 'tunnel') {
    watchRoutes({ signal, onChange: list });
    list();
  }
  table.markSynced();
  return table;
}

const isWayOut = ({ type, protocol, prefix, ifindex }: Route): boolean =>
  type === 'unicast' && protocol !== PROTOCOL_ISTHMUS && !prefix.endsWith('/0') && ifindex !== 0;
