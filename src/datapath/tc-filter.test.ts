import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { buildBpf } from '../../deploy/build.ts';
import { enterFreshNetns, needsRoot } from '../../test/netns.ts';
import { FilterPins, filterNames } from './filter-pins.ts';
import * as libbpf from './libbpf.ts';
import { createVeth, deleteLink, linkByName } from './link.ts';
import { failedWith, Netlink } from './netlink.ts';
import { filterName, removeFilter, replaceFilter } from './tc-filter.ts';

const tc = (...parameters: readonly string[]): string => execFileSync('tc', parameters, { encoding: 'utf8' });

describe('programs on devices by filters of traffic control', needsRoot, () => {
  let netlink: Netlink;
  let device: number;
  let program: number;
  const folder = mkdtempSync(join(tmpdir(), 'isthmus-filter-'));
  const pins = join(folder, 'filters');
  before(async () => {
    const object = libbpf.objectOpen(await buildBpf(), null);
    libbpf.check(libbpf.objectLoad(object), 'load');
    program = libbpf.programFd(libbpf.findProgram(object, 'from_pod'));
    enterFreshNetns();
    execFileSync('mount', ['-t', 'bpf', 'bpf', folder]);
    netlink = new Netlink();
    createVeth(netlink, { name: 'e0', peer: 'e1' });
    device = linkByName(netlink, 'e0')!.index;
  });
  after(() => {
    execFileSync('umount', ['-l', folder]);
    rmSync(folder, { recursive: true });
  });

  it('are put on, exchanged and taken off; the clsact goes with the last filter', () => {
    const place = { ifindex: device, direction: 'ingress' } as const;
    assert.equal(filterName(netlink, place), undefined);
    replaceFilter(netlink, { ...place, program, name: 'first' });
    replaceFilter(netlink, { ...place, program, name: 'second' });
    assert.equal(filterName(netlink, place), 'second');
    assert.equal(filterName(netlink, { ...place, direction: 'egress' }), undefined);
    assert.match(
      tc('filter', 'show', 'dev', 'e0', 'ingress'),
      /pref 1 bpf.* handle 0x157 second direct-action/,
    );
    assert.equal(removeFilter(netlink, place), true);
    assert.equal(removeFilter(netlink, place), false);
    assert.doesNotMatch(tc('qdisc', 'show', 'dev', 'e0'), /clsact/);
  });

  it('leave the filters of others where they are', () => {
    tc('qdisc', 'add', 'dev', 'e0', 'clsact');
    const all = ['bpf', 'bytecode', '1,6 0 0 4294967295', 'flowid', '1:7'];
    tc('filter', 'add', 'dev', 'e0', 'egress', 'prio', '1', 'handle', '1', ...all);
    const place = { ifindex: device, direction: 'egress' } as const;
    replaceFilter(netlink, { ...place, program, name: 'ours' });
    removeFilter(netlink, place);
    assert.match(tc('filter', 'show', 'dev', 'e0', 'egress'), /handle 0x1 flowid 1:7/);
    tc('qdisc', 'del', 'dev', 'e0', 'clsact');
  });

  it('a device that is gone is an error to attach to, and nothing to detach from', () => {
    const place = { ifindex: 999, direction: 'ingress' } as const;
    assert.throws(
      () => replaceFilter(netlink, { ...place, program, name: 'x' }),
      error => failedWith(error, 'ENODEV') && /clsact to device 999/.test(String(error)),
    );
    assert.equal(removeFilter(netlink, place), false);
    assert.equal(filterName(netlink, place), undefined);
  });

  it('are remembered by pins: another process detaches them all', async () => {
    using ours = new FilterPins(pins);
    ours.attach({ program, ifindex: device, direction: 'ingress', name: 'from_netdev_eth0:5@x' });
    await Promise.all([
      ours.attachNew({ program, ifindex: device, direction: 'egress', name: 'to_netdev' }),
      assert.rejects(ours.attachNew({ program, ifindex: 999, direction: 'egress', name: 'none' }), error =>
        failedWith(error, 'ENODEV'),
      ),
    ]);
    assert.deepEqual(filterNames(pins), ['from_netdev_eth0:5@x', 'to_netdev']);
    ours.detach('from_netdev_eth0:5@x');
    assert.deepEqual(filterNames(pins), ['to_netdev']);
    using later = new FilterPins(pins);
    later.detachAll();
    assert.deepEqual(filterNames(pins), []);
    assert.doesNotMatch(tc('qdisc', 'show', 'dev', 'e0'), /clsact/);
  });

  it('a name that moves to another device is taken off the first; one whose device is gone is forgotten', () => {
    using ours = new FilterPins(pins);
    createVeth(netlink, { name: 'e2', peer: 'e3' });
    const other = linkByName(netlink, 'e2')!.index;
    ours.attach({ program, ifindex: device, direction: 'ingress', name: 'from_host' });
    ours.attach({ program, ifindex: other, direction: 'ingress', name: 'from_host' });
    assert.equal(filterName(netlink, { ifindex: device, direction: 'ingress' }), undefined);
    deleteLink(netlink, other);
    ours.detach('from_host');
    assert.deepEqual(filterNames(pins), []);
  });
});
