import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { enterFreshNetns, needsRoot } from '../../test/netns.ts';
import { changeLink, createVeth, linkByName } from '../datapath/link.ts';
import { Netlink, RTNLGRP_IPV4_ROUTE } from '../datapath/netlink.ts';
import {
  deleteRoute,
  listRoutes,
  listRoutesLater,
  PROTOCOL_ISTHMUS,
  replaceRoute,
} from '../datapath/route.ts';
import { Reconciler } from '../table/reconciler.ts';
import { Table } from '../table/table.ts';
import { type HostRoute, hostRouteTarget } from './host-routes.ts';

describe('routes of this node to pods', needsRoot, () => {
  it('a repair writes what is gone or is otherwise, takes away what is nobody\u2019s, and leaves all else as it is', async t => {
    enterFreshNetns();
    const netlink = new Netlink();
    createVeth(netlink, { name: 'host0', peer: 'net0' });
    const ifindex = linkByName(netlink, 'host0')!.index;
    changeLink(netlink, ifindex, { up: true });
    changeLink(netlink, linkByName(netlink, 'net0')!.index, { up: true });
    const routes = new Table<HostRoute>({ name: 'routes', keyOf: row => row.prefix });
    for (let n = 0; n < 2000; n++)
      routes.upsert({ prefix: `10.${n >> 8}.${n & 255}.0/24`, ifindex, gateway: '', source: '', mtu: 1400 });
    routes.markSynced();
    const stop = new AbortController();
    t.after(() => stop.abort());
    const reconciler = new Reconciler<HostRoute>(routes, hostRouteTarget(netlink), { signal: stop.signal });
    await reconciler.whenSettled();
    const ours = { protocol: PROTOCOL_ISTHMUS } as const;
    const before = listRoutes(netlink, ours);
    assert.equal(before.length, 2000);
    assert.deepEqual([...listRoutesLater(netlink, ours)].flat(), before);

    deleteRoute(netlink, { prefix: '10.0.3.0/24' });
    replaceRoute(netlink, { prefix: '10.1.4.0/24', ifindex, mtu: 1300 });
    replaceRoute(netlink, { prefix: '10.99.0.0/24', ifindex });
    using events = new Netlink([RTNLGRP_IPV4_ROUTE]);
    await reconciler.repair();
    await reconciler.whenSettled();
    assert.equal(events.poll().messages.length, 3);
    const byPrefix = (a: { prefix: string }, b: { prefix: string }): number => (a.prefix < b.prefix ? -1 : 1);
    assert.deepEqual(listRoutes(netlink, ours).sort(byPrefix), before.sort(byPrefix));
  });
});
