import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { before, describe, it } from 'node:test';
import { enterFreshNetns, needsRoot } from '../../test/netns.ts';
import { addressBytes, addressText } from '../api/ip-address.ts';
import { announcementOf, joinSolicitedNodeGroup, sendFrame } from './address-announcement.ts';
import {
  changeLink,
  createVeth,
  createVxlan,
  deleteLink,
  linkByIndex,
  linkByName,
  listLinks,
} from './link.ts';
import { addAddress, deleteAddress, listAddresses } from './link-address.ts';
import { type LinkEvent, watchLinks } from './link-watch.ts';
import { deleteNeighbour, listNeighbours, replaceNeighbour } from './neighbour.ts';
import { failedWith, Netlink } from './netlink.ts';
import { splitPrefix } from './netlink-address.ts';
import { attribute, decodeAttributes, decodeMessages, encodeMessage, text } from './netlink-message.ts';
import { deleteRoute, listRoutes, PROTOCOL_ISTHMUS, replaceRoute, routeTo } from './route.ts';
import { readSysctl, writeSysctl } from './sysctl.ts';

describe('netlink messages', () => {
  it('round-trips attributes with padding', () => {
    const body = Buffer.concat([text(3, 'eth0'), attribute(4, Uint8Array.of(1, 2, 3, 4))]);
    const found = decodeAttributes(body);
    assert.equal(found.get(3)!.toString(), 'eth0\0');
    assert.deepEqual([...found.get(4)!], [1, 2, 3, 4]);
  });

  it('splits a datagram and refuses a torn one', () => {
    const two = Buffer.concat([
      encodeMessage(16, 0, 1, Buffer.from('abc')),
      encodeMessage(17, 0, 2, Buffer.from('d')),
    ]);
    assert.deepEqual(
      [...decodeMessages(two)].map(each => [each.type, each.sequence, each.body.toString()]),
      [
        [16, 1, 'abc'],
        [17, 2, 'd'],
      ],
    );
    assert.throws(() => [...decodeMessages(two.subarray(0, 18))], /message of 19 bytes/);
  });

  it('reads and writes addresses', () => {
    for (const each of ['10.1.0.255', '::', '::1', 'fd00::1', '2001:db8:0:1:1:1:1:1', '1::', 'fe80::a:0:0:1'])
      assert.equal(addressText(addressBytes(each)), each);
    assert.equal(addressText(addressBytes('::ffff:1.2.3.4')), '::ffff:102:304');
    assert.deepEqual(splitPrefix('10.0.0.0/8'), { address: '10.0.0.0', length: 8 });
    assert.deepEqual(splitPrefix('fd00::1'), { address: 'fd00::1', length: 128 });
    for (const bad of ['10.0.0/8', '10.0.0.0/33', '10.0.0.0/', 'x']) assert.throws(() => splitPrefix(bad));
  });
});

describe('netlink in a namespace', needsRoot, () => {
  let netlink: Netlink;
  before(() => {
    enterFreshNetns();
    netlink = new Netlink();
  });

  it('creates, finds, changes and deletes a veth pair', () => {
    createVeth(netlink, {
      name: 'a0',
      peer: 'b0',
      mac: '0a:00:00:00:00:01',
      peerMac: '0a:00:00:00:00:02',
      mtu: 1400,
    });
    const a = linkByName(netlink, 'a0')!;
    const b = linkByName(netlink, 'b0')!;
    assert.equal(a.mac, '0a:00:00:00:00:01');
    assert.equal(b.mac, '0a:00:00:00:00:02');
    assert.equal(a.mtu, 1400);
    assert.equal(a.kind, 'veth');
    assert.equal(a.peer, b.index);
    assert.equal(a.up, false);
    changeLink(netlink, a.index, { up: true, alias: 'pod web', mtu: 1350, mac: '0a:00:00:00:00:03' });
    changeLink(netlink, b.index, { up: true });
    const changed = linkByIndex(netlink, a.index)!;
    assert.equal(changed.up && changed.carrier, true);
    assert.equal(changed.alias, 'pod web');
    assert.equal(changed.mtu, 1350);
    assert.equal(changed.mac, '0a:00:00:00:00:03');
    changeLink(netlink, a.index, { alias: '' });
    assert.equal(linkByIndex(netlink, a.index)!.alias, '');
    assert.deepEqual(
      listLinks(netlink)
        .map(each => each.name)
        .sort(),
      ['a0', 'b0', 'lo'],
    );
    assert.throws(
      () => createVeth(netlink, { name: 'a0', peer: 'c0' }),
      (error: unknown) => failedWith(error, 'EEXIST') && /create veth a0: EEXIST/.test(String(error)),
    );
    assert.equal(deleteLink(netlink, 'a0'), true);
    assert.equal(linkByName(netlink, 'b0'), undefined);
    assert.equal(deleteLink(netlink, 'a0'), false);
    assert.equal(deleteLink(netlink, a.index), false);
  });

  it('creates an external VXLAN device', () => {
    createVxlan(netlink, { name: 'vx0', port: 8472, mtu: 1450 });
    const link = linkByName(netlink, 'vx0')!;
    assert.deepEqual(link.vxlan, { port: 8472, collectMetadata: true, udpChecksum: false });
    assert.equal(link.mtu, 1450);
    deleteLink(netlink, link.index);
  });

  it('adds, lists and removes addresses, routes and neighbours', () => {
    createVeth(netlink, { name: 'a1', peer: 'b1' });
    const a = linkByName(netlink, 'a1')!.index;
    changeLink(netlink, a, { up: true });
    changeLink(netlink, linkByName(netlink, 'b1')!.index, { up: true });
    addAddress(netlink, a, '10.1.0.1/32');
    addAddress(netlink, a, '10.1.0.1/32');
    addAddress(netlink, a, 'fd00::1/128');
    assert.deepEqual(
      listAddresses(netlink, a)
        .filter(each => each.scope === 'universe')
        .map(each => `${each.address}/${each.prefixLength}`),
      ['10.1.0.1/32', 'fd00::1/128'],
    );

    replaceRoute(netlink, { prefix: '10.2.0.0/16', ifindex: a, source: '10.1.0.1', mtu: 1400 });
    replaceRoute(netlink, { prefix: '10.2.0.0/16', ifindex: a, source: '10.1.0.1', mtu: 1300 });
    replaceRoute(netlink, { prefix: '10.9.0.0/24', type: 'unreachable', table: 1000 });
    replaceRoute(netlink, { prefix: '0.0.0.0/0', ifindex: a, via: '10.1.9.9', onlink: true });
    replaceRoute(netlink, { prefix: '10.3.0.0/16', ifindex: a, protocol: 4 });
    const ours = listRoutes(netlink, { protocol: PROTOCOL_ISTHMUS });
    assert.deepEqual(ours.map(each => `${each.table} ${each.prefix}`).sort(), [
      '1000 10.9.0.0/24',
      '254 0.0.0.0/0',
      '254 10.2.0.0/16',
    ]);
    assert.deepEqual(
      ours.find(each => each.prefix === '10.2.0.0/16'),
      {
        prefix: '10.2.0.0/16',
        table: 254,
        protocol: PROTOCOL_ISTHMUS,
        type: 'unicast',
        scope: 'link',
        ifindex: a,
        source: '10.1.0.1',
        mtu: 1300,
      },
    );
    assert.equal(ours.find(each => each.prefix === '0.0.0.0/0')!.via, '10.1.9.9');
    assert.equal(listRoutes(netlink, { table: 1000 }).length, 1);
    assert.equal(routeTo(netlink, '10.2.3.4').ifindex, a);
    assert.equal(routeTo(netlink, '10.2.3.4').source, '10.1.0.1');
    assert.equal(deleteRoute(netlink, { prefix: '10.2.0.0/16' }), true);
    assert.equal(deleteRoute(netlink, { prefix: '10.2.0.0/16' }), false);
    assert.throws(
      () => replaceRoute(netlink, { prefix: '10.4.0.0/16', ifindex: 999 }),
      /route 10.4.0.0\/16 dev 999: E/,
    );

    replaceNeighbour(netlink, a, '10.1.0.7', '0a:00:00:00:00:07');
    assert.deepEqual(
      listNeighbours(netlink, a).filter(each => each.address === '10.1.0.7'),
      [{ ifindex: a, address: '10.1.0.7', mac: '0a:00:00:00:00:07', permanent: true }],
    );
    assert.equal(deleteNeighbour(netlink, a, '10.1.0.7'), true);
    assert.equal(deleteNeighbour(netlink, a, '10.1.0.7'), false);
    assert.equal(deleteAddress(netlink, a, '10.1.0.1/32'), true);
    assert.equal(deleteAddress(netlink, a, '10.1.0.1/32'), false);
    deleteLink(netlink, a);
  });

  it('announces an address of either family, and a neighbour takes its MAC over', async () => {
    createVeth(netlink, { name: 'tell', peer: 'hear' });
    const [tell, hear] = ['tell', 'hear'].map(name => linkByName(netlink, name)!);
    for (const each of [tell!, hear!]) changeLink(netlink, each.index, { up: true });
    addAddress(netlink, hear!.index, '192.0.2.254/24');
    // Without these only an entry that is there already is changed.
    writeSysctl('net/ipv4/conf/hear/arp_accept', 1);
    for (const name of ['forwarding', 'accept_untracked_na']) writeSysctl(`net/ipv6/conf/hear/${name}`, 1);
    for (const address of ['192.0.2.1', '2001:db8::1']) {
      const known = (): string | undefined =>
        listNeighbours(netlink, hear!.index).find(each => each.address === address)?.mac;
      for (const mac of [tell!.mac, '02:00:00:00:00:77']) {
        // What is sent before the kernel has set the new device going is lost.
        while (known() !== mac) {
          const { frame, protocol } = announcementOf(address, mac);
          sendFrame(tell!.index, frame, protocol);
          await new Promise(resolve => setImmediate(resolve));
        }
      }
    }
    const { frame, protocol } = announcementOf('192.0.2.1', tell!.mac);
    assert.throws(() => sendFrame(99_999, frame, protocol), /device 99999: ENODEV/);
    deleteLink(netlink, tell!.index);
  });

  it('joins the group that questions for an IPv6 address go to, and leaves it', () => {
    createVeth(netlink, { name: 'asked', peer: 'asker' });
    const { index } = linkByName(netlink, 'asked')!;
    changeLink(netlink, index, { up: true });
    const joined = (): boolean =>
      readFileSync('/proc/net/igmp6', 'utf8').includes('asked           ff0200000000000000000001ff345678');
    {
      using _group = joinSolicitedNodeGroup('2001:db8::1234:5678', index);
      assert.equal(joined(), true);
    }
    assert.equal(joined(), false);
    assert.throws(() => joinSolicitedNodeGroup('2001:db8::1', 99_999), /device 99999: ENODEV/);
    deleteLink(netlink, index);
  });

  it('lists hundreds of links in several datagrams', () => {
    for (let at = 0; at < 150; at++) createVeth(netlink, { name: `m${at}`, peer: `n${at}` });
    assert.equal(listLinks(netlink).length, 301);
    for (let at = 0; at < 150; at++) deleteLink(netlink, `m${at}`);
  });

  it('sets sysctls of the namespace', () => {
    createVeth(netlink, { name: 'a2', peer: 'b2' });
    assert.equal(writeSysctl('net/ipv4/conf/a2/rp_filter', 2), true);
    assert.equal(writeSysctl('net/ipv4/conf/a2/rp_filter', 2), false);
    assert.equal(readSysctl('net/ipv4/conf/a2/rp_filter'), '2');
    assert.throws(
      () => writeSysctl('net/ipv4/conf/none/rp_filter', 0),
      /net\/ipv4\/conf\/none\/rp_filter=0: ENOENT/,
    );
    deleteLink(netlink, 'a2');
  });

  it('tells changes', async () => {
    const abort = new AbortController();
    const events: LinkEvent[] = [];
    const seen = Promise.withResolvers<void>();
    watchLinks({
      signal: abort.signal,
      interval: 2,
      onEvent: event => {
        events.push(event);
        if (event.type === 'link-gone' && event.link.name === 'a3') seen.resolve();
      },
    });
    const hold = setInterval(() => {}, 1000);
    createVeth(netlink, { name: 'a3', peer: 'b3' });
    const index = linkByName(netlink, 'a3')!.index;
    addAddress(netlink, index, '10.5.0.1/24');
    deleteLink(netlink, index);
    await seen.promise;
    clearInterval(hold);
    abort.abort();
    assert.ok(events.some(each => each.type === 'link' && each.link.name === 'a3'));
    assert.ok(events.some(each => each.type === 'address' && each.address.address === '10.5.0.1'));
  });
});
