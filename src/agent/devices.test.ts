import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { enterFreshNetns, needsRoot } from '../../test/netns.ts';
import { changeLink, createVeth, deleteLink, type Link, linkByName, listLinks } from '../datapath/link.ts';
import { addAddress, listAddresses } from '../datapath/link-address.ts';
import { Netlink } from '../datapath/netlink.ts';
import { replaceRoute } from '../datapath/route.ts';
import { readSysctl, writeSysctl } from '../datapath/sysctl.ts';
import { log } from '../log.ts';
import { ensureDevices, removeDevices } from './devices.ts';
import { watchHostAddresses } from './host-addresses.ts';
import { chooseUplinks, findUplinks } from './uplink.ts';

describe('uplinks', () => {
  const link = (index: number, name: string, kind = ''): Link => ({
    index,
    name,
    kind,
    mac: '',
    mtu: 1500,
    up: true,
    carrier: true,
    loopback: name === 'lo',
    arp: true,
    alias: '',
    master: 0,
    peer: 0,
  });
  const links = [
    link(1, 'lo'),
    link(2, 'eth0'),
    link(3, 'eth1'),
    link(4, 'isthmus_host'),
    link(5, 'ist0123456789a', 'veth'),
  ];
  const addresses = [
    { ifindex: 1, address: '127.0.0.1', prefixLength: 8, scope: 'host' as const },
    { ifindex: 2, address: '10.0.0.2', prefixLength: 24, scope: 'universe' as const },
    { ifindex: 3, address: '172.18.1.2', prefixLength: 24, scope: 'universe' as const },
  ];
  const byDefault = [
    {
      prefix: '0.0.0.0/0',
      table: 254,
      protocol: 3,
      type: 'unicast' as const,
      scope: 'universe' as const,
      ifindex: 2,
      via: '10.0.0.1',
    },
  ];
  const names = (devices: string[], nodeIp?: string, routes = byDefault): string[] =>
    chooseUplinks(links, addresses, routes, { devices, ...(nodeIp && { nodeIp }) }).map(each => each.name);

  it('are those of the default route and of the node’s address, its own first', () => {
    assert.deepEqual(names([]), ['eth0']);
    assert.deepEqual(names([], '172.18.1.2'), ['eth1', 'eth0']);
    assert.deepEqual(names([], '172.18.1.2', []), ['eth1']);
  });

  it('are those named, also by their beginning', () => {
    assert.deepEqual(names(['eth1']), ['eth1']);
    assert.deepEqual(names(['eth+']), ['eth0', 'eth1']);
    assert.throws(() => names(['wlan0']), /devices: none is named wlan0; there are: eth0, eth1/);
    assert.throws(() => names([], undefined, []), /no uplink found.*devices: eth0, eth1/);
  });
});

describe('devices', needsRoot, () => {
  let netlink: Netlink;
  before(() => {
    enterFreshNetns();
    netlink = new Netlink();
    changeLink(netlink, linkByName(netlink, 'lo')!.index, { up: true });
    createVeth(netlink, { name: 'eth0', peer: 'far0', mtu: 1400 });
    for (const name of ['eth0', 'far0']) changeLink(netlink, linkByName(netlink, name)!.index, { up: true });
    addAddress(netlink, linkByName(netlink, 'eth0')!.index, '172.18.1.2/24');
    replaceRoute(netlink, { prefix: '0.0.0.0/0', via: '172.18.1.1', protocol: 3 });
  });

  const ensure = (...internalIps: string[]) => {
    if (!internalIps.length) internalIps.push('10.1.0.1');
    const uplinks = findUplinks(netlink, { devices: [], nodeIp: '172.18.1.2' });
    return ensureDevices({ netlink, uplinks, internalIps, underlay: 4, tunnelPort: 8472, log });
  };

  it('are made, and adopted without a change', () => {
    writeSysctl('net/ipv4/conf/all/rp_filter', 1);
    const made = ensure();
    assert.equal(made.podMtu, 1350);
    for (const each of [made.host, made.net, made.vxlan]) {
      assert.equal(linkByName(netlink, each.name)!.up, true);
      assert.equal(linkByName(netlink, each.name)!.mtu, 1350);
      assert.equal(readSysctl(`net/ipv4/conf/${each.name}/rp_filter`), '0');
    }
    assert.equal(made.host.arp, false);
    assert.deepEqual(made.vxlan.vxlan, { port: 8472, collectMetadata: true, udpChecksum: false });
    assert.deepEqual(
      listAddresses(netlink, made.host.index).map(each => [each.address, each.prefixLength, each.scope]),
      [['10.1.0.1', 32, 'link']],
    );
    assert.equal(readSysctl('net/ipv4/ip_forward'), '1');
    assert.equal(readSysctl('net/ipv4/conf/all/rp_filter'), '0');
    assert.equal(readSysctl('net/ipv4/conf/eth0/rp_filter'), '1');
    assert.match(made.warnings[0]!, /net\.ipv4\.conf\.eth0\.rp_filter is 1/);
    assert.deepEqual(ensure(), made);
  });

  it('of dual stack have an address of each family, and routers of the uplink are still heard', () => {
    writeSysctl('net/ipv6/conf/eth0/accept_ra', 1);
    const made = ensure('10.1.0.1', 'fd00:10::1');
    const prefixes = (): string[] =>
      listAddresses(netlink, made.host.index).map(each => `${each.address}/${each.prefixLength}`);
    assert.deepEqual(prefixes(), ['10.1.0.1/32', 'fd00:10::1/128']);
    assert.equal(readSysctl('net/ipv6/conf/all/forwarding'), '1');
    assert.equal(readSysctl('net/ipv6/conf/eth0/accept_ra'), '2');
    for (const { name } of [made.host, made.net, made.vxlan])
      assert.equal(readSysctl(`net/ipv6/conf/${name}/disable_ipv6`), '0');
    assert.deepEqual(ensure('10.1.0.1', 'fd00:10::1'), made);
    ensure();
    assert.deepEqual(prefixes(), ['10.1.0.1/32']);
  });

  it('follow a changed internal address and a changed tunnel, and leave others’ devices alone', () => {
    const before = ensure();
    const changed = ensure('10.2.0.1');
    assert.equal(changed.host.index, before.host.index);
    assert.deepEqual(
      listAddresses(netlink, changed.host.index).map(each => each.address),
      ['10.2.0.1'],
    );
    deleteLink(netlink, 'isthmus_vxlan');
    createVeth(netlink, { name: 'isthmus_vxlan', peer: 'foreign' });
    assert.equal(ensure().vxlan.kind, 'vxlan');
    assert.equal(removeDevices(netlink), true);
    assert.equal(removeDevices(netlink), false);
    assert.deepEqual(
      listLinks(netlink)
        .map(each => each.name)
        .sort(),
      ['eth0', 'far0', 'lo'],
    );
  });

  it('have their addresses in a table that follows the kernel', async () => {
    const abort = new AbortController();
    const table = watchHostAddresses(netlink, abort.signal);
    assert.deepEqual([...table.keys()], ['172.18.1.2']);
    const hold = setInterval(() => {}, 1000);
    const changed = new Promise<void>(resolve => table.subscribe(() => resolve()));
    addAddress(netlink, linkByName(netlink, 'eth0')!.index, '172.18.1.77/32');
    await changed;
    clearInterval(hold);
    abort.abort();
    assert.deepEqual([...table.keys()].sort(), ['172.18.1.2', '172.18.1.77']);
  });
});
