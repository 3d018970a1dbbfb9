import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { enterFreshNetns, needsRoot } from '../../test/netns.ts';
import { changeLink, createVeth, linkByName, listLinks } from '../datapath/link.ts';
import { addAddress } from '../datapath/link-address.ts';
import { Netlink } from '../datapath/netlink.ts';
import { listRoutes, PROTOCOL_ISTHMUS, replaceRoute } from '../datapath/route.ts';
import { log } from '../log.ts';
import { cleanNode } from './cleanup.ts';
import { installPlugin, setOthersAside, writeConfiguration } from './cni-config.ts';
import { ensureDevices } from './devices.ts';
import { findUplinks } from './uplink.ts';

describe('clean up', needsRoot, () => {
  it('leaves a node as it was, first but for running pods', t => {
    enterFreshNetns();
    const netlink = new Netlink();
    const folder = mkdtempSync(join(tmpdir(), 'isthmus-cleanup-'));
    t.after(() => rmSync(folder, { recursive: true }));
    createVeth(netlink, { name: 'eth0', peer: 'far0' });
    const eth0 = linkByName(netlink, 'eth0')!.index;
    for (const name of ['lo', 'eth0', 'far0'])
      changeLink(netlink, linkByName(netlink, name)!.index, { up: true });
    addAddress(netlink, eth0, '172.18.1.2/24');
    replaceRoute(netlink, { prefix: '10.77.0.0/16', ifindex: eth0, protocol: 4 });
    const cniPaths = {
      binFolder: join(folder, 'bin'),
      configFolder: join(folder, 'net.d'),
      runFolder: join(folder, 'run'),
    };
    mkdirSync(cniPaths.configFolder);
    writeFileSync(join(cniPaths.configFolder, '10-bridge.conf'), '{}');
    // IPv4: the kernel adds link-local routes of IPv6 by itself, some time after a device is up.
    const before = [
      listLinks(netlink).map(each => each.name),
      listRoutes(netlink, { family: 4 }).map(each => each.prefix),
    ];

    const uplinks = findUplinks(netlink, { devices: [], nodeIp: '172.18.1.2' });
    const { host } = ensureDevices({
      netlink,
      uplinks,
      internalIps: ['10.1.0.1'],
      underlay: 4,
      tunnelPort: 8472,
      log,
    });
    replaceRoute(netlink, { prefix: '10.1.0.0/16', ifindex: host.index, source: '10.1.0.1' });
    replaceRoute(netlink, { prefix: '10.2.0.0/16', ifindex: host.index, table: 2000 });
    createVeth(netlink, { name: 'ist0123456789a', peer: 'pod0' });
    changeLink(netlink, linkByName(netlink, 'ist0123456789a')!.index, { up: true });
    writeFileSync(join(folder, 'plugin'), 'x');
    installPlugin(join(folder, 'plugin'), cniPaths);
    writeConfiguration(cniPaths);
    setOthersAside(cniPaths);
    const bpffs = join(folder, 'bpf');
    const { runFolder } = cniPaths;
    mkdirSync(join(bpffs, 'isthmus/links'), { recursive: true });
    mkdirSync(join(runFolder, 'endpoints'), { recursive: true });
    writeFileSync(join(bpffs, 'isthmus/links/from_host'), '');
    mkdirSync(join(bpffs, 'isthmus/filters'));
    writeFileSync(join(bpffs, `isthmus/filters/to_netdev_eth0@${eth0}-egress`), '');
    writeFileSync(join(runFolder, 'endpoints/1.json'), '{}');

    assert.deepEqual(cleanNode({ cniPaths, bpffs }), { devices: true, failed: [] });
    assert.equal(linkByName(netlink, 'ist0123456789a')!.up, false);
    assert.deepEqual(readdirSync(runFolder), ['endpoints']);
    assert.deepEqual(listRoutes(netlink, { protocol: PROTOCOL_ISTHMUS }), []);
    assert.deepEqual(readdirSync(bpffs), []);
    assert.deepEqual(readdirSync(cniPaths.configFolder), ['10-bridge.conf']);

    assert.deepEqual(cleanNode({ cniPaths, bpffs, keepPods: false }), {
      devices: false,
      failed: [],
    });
    assert.deepEqual(
      [
        listLinks(netlink).map(each => each.name),
        listRoutes(netlink, { family: 4 }).map(each => each.prefix),
      ],
      before,
    );
    assert.deepEqual(readdirSync(runFolder), []);
  });
});
