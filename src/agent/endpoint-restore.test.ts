import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Link } from '../datapath/link.ts';
import {
  addressesOf,
  type Endpoint,
  endpointKey,
  endpointMapRow,
  hostInterfaceName,
  isHostInterfaceName,
} from './endpoint.ts';
import { judgeEndpoints, recoverEndpoints } from './endpoint-restore.ts';

const endpoint = (id: number, fields: Partial<Endpoint> = {}): Endpoint => ({
  id,
  containerId: `c${id}`,
  ifName: 'eth0',
  netns: '/run/netns/x',
  network: 'isthmus',
  hostIfName: hostInterfaceName(`c${id}/eth0`),
  ifindex: 10 + id,
  ipv4: `10.1.0.${id}`,
  gateway: '10.1.0.1',
  mtu: 1450,
  mac: '02:00:00:00:00:01',
  hostMac: '02:00:00:00:00:02',
  namespace: 'shop',
  podName: `p${id}`,
  podUid: '',
  portMappings: [],
  state: 'ready',
  createdAt: '2026-01-01T00:00:00Z',
  ...fields,
});
const deviceOf = (of: Endpoint, fields: Partial<Link> = {}): Link => ({
  index: of.ifindex,
  name: of.hostIfName,
  kind: 'veth',
  mac: of.hostMac,
  mtu: 1450,
  up: true,
  carrier: true,
  loopback: false,
  arp: true,
  alias: endpointKey(of),
  master: 0,
  peer: 2,
  ...fields,
});

describe('endpoints after a restart', () => {
  it('live while their device does, with the index the kernel gives it now', () => {
    const [a, b, c] = [endpoint(2), endpoint(3), endpoint(4)];
    const judged = judgeEndpoints([a, b, c], [deviceOf(a, { index: 77 }), deviceOf(c, { alias: 'x/eth0' })]);
    assert.deepEqual(judged.live, [{ ...a, ifindex: 77 }]);
    assert.deepEqual(
      judged.dead.map(each => [each.endpoint.id, each.reason]),
      [
        [3, `device ${b.hostIfName} is gone`],
        [4, `device ${c.hostIfName} is of x/eth0`],
      ],
    );
  });

  it('keep their address while the plugin may still be at work', () => {
    const adding = endpoint(2, { state: 'creating', ifindex: 0 });
    assert.deepEqual(judgeEndpoints([adding], []), { live: [], creating: [adding], dead: [] });
  });

  it('deliver nothing twice: of two that claim an address the one with a device is right', () => {
    const older = endpoint(2, { ipv4: '10.1.0.9' });
    const newer = endpoint(3, { ipv4: '10.1.0.9' });
    const judged = judgeEndpoints([older, newer], [deviceOf(newer)]);
    assert.deepEqual(judged.live, [newer]);
    assert.match(judged.dead[0]!.reason, /another endpoint has its ip 10\.1\.0\.9/);
  });

  it('go on being deleted as ready ones: the runtime asks again', () => {
    const going = endpoint(2, { state: 'deleting' });
    assert.equal(judgeEndpoints([going], [deviceOf(going)]).live[0]!.state, 'ready');
  });

  it('are recovered from device and map when their file is lost', () => {
    const both = { ipv6: 'fd00:10::3', gateway6: 'fd00:10::1' };
    const [onFile, lost, leaked] = [endpoint(2), endpoint(3, { identity: 70001, ...both }), endpoint(4)];
    const recovered = recoverEndpoints([onFile], {
      links: [deviceOf(onFile), deviceOf(lost), deviceOf(leaked)],
      rows: [onFile, lost].flatMap(each =>
        addressesOf(each).map(({ address }) => endpointMapRow(each, address)!),
      ),
      gateways: { gateway: '10.1.0.1', gateway6: 'fd00:10::1' },
      createdAt: lost.createdAt,
    });
    assert.deepEqual(recovered, [{ ...lost, netns: '', namespace: '', podName: '' }]);
  });

  it('have device names that the plugin computes alike', () => {
    // Computed by host_name of cni/isthmus-cni.c, in the tests of the plugin without an agent.
    assert.equal(isHostInterfaceName(hostInterfaceName('c6/eth0')), true);
    assert.equal(isHostInterfaceName('ist0'), false);
    const names = Array.from({ length: 20_000 }, (_, at) => hostInterfaceName(`${at}/eth0`));
    assert.equal(new Set(names).size, names.length);
  });
});
