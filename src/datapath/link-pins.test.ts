import assert from 'node:assert/strict';
import { test } from 'node:test';
import { enterFreshNetns, needsRoot } from '../../test/netns.ts';
import { createVeth, linkByName } from './link.ts';
import { listPins, pinPath } from './link-pins.ts';
import { Netlink } from './netlink.ts';
import { createPrograms } from './programs.fixture.ts';

test('names of pins that bpffs would refuse are told apart and come back as they were', () => {
  const names = ['from_netdev_eth0.5', 'from_netdev_eth0%2e5', 'from_netdev_eth0', 'a%b.', '..'];
  const paths = names.map(name => pinPath('/sys/fs/bpf/links', name));
  assert.equal(new Set(paths).size, names.length);
  for (const path of paths) assert.doesNotMatch(path.slice('/sys/fs/bpf/links/'.length), /[./]/);
  assert.equal(pinPath('/x', 'from_netdev_eth0'), '/x/from_netdev_eth0');
  assert.deepEqual(listPins('/nowhere'), []);
});

test('programs are attached to a VLAN device, adopted again, and taken off', needsRoot, async () => {
  enterFreshNetns();
  using programs = await createPrograms();
  using netlink = new Netlink();
  createVeth(netlink, { name: 'eth0.5', peer: 'router' });
  const { index } = linkByName(netlink, 'eth0.5')!;
  const { datapath } = programs;
  for (let time = 0; time < 2; time++) {
    datapath.attachDevice('from_netdev', index, 'ingress', 'from_netdev_eth0.5');
    datapath.attachDevice('to_netdev', index, 'egress', 'to_netdev_eth0.5');
    assert.deepEqual(datapath.pinned(), ['from_netdev_eth0.5', 'to_netdev_eth0.5']);
  }
  datapath.detach('from_netdev_eth0.5');
  assert.deepEqual(datapath.pinned(), ['to_netdev_eth0.5']);
});
