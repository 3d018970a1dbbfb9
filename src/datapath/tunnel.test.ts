import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import type { Datapath } from './object.ts';
import { ethernet, tcp, udp } from './packet.fixture.ts';
import { createPrograms, INTERNAL, NODE, POD, type Programs, ports, REMOTE } from './programs.fixture.ts';
import { TC_ACT } from './test-run.ts';

describe('the tunnel, packet by packet', () => {
  let programs: Programs;
  let datapath: Datapath;
  let send: Programs['send'];
  before(async () => {
    programs = await createPrograms();
    ({ datapath, send } = programs);
  });
  after(() => programs?.[Symbol.dispose]());
  beforeEach(() => programs.forget());

  it('the tunnel’s own packets pass the uplink uncounted', () => {
    for (const [program, from, to] of [
      ['from_netdev', '192.168.77.2', NODE],
      ['to_netdev', NODE, '192.168.77.2'],
    ] as const) {
      const { verdict, reasons } = send(
        program,
        udp({ ...ports(from, to, 40_000, 8472), data: new Array<number>(60).fill(0) }),
      );
      assert.deepEqual([verdict, reasons], [TC_ACT.OK, []]);
    }
  });

  it('a pod’s address from the uplink outside a tunnel is a lie', () => {
    assert.deepEqual(send('from_netdev', tcp(ports(REMOTE, POD))).reasons, [
      'DROP_POD_SOURCE_OUTSIDE_TUNNEL',
    ]);
  });

  it('without a tunnel key nothing comes out of the tunnel', () => {
    assert.deepEqual(send('from_overlay', tcp(ports(REMOTE, POD))).reasons, ['DROP_NO_TUNNEL_KEY']);
  });

  describe('a VXLAN packet at the uplink', () => {
    const inner = tcp(ports(REMOTE, POD, 50_000, 80));
    const vxlan = (from: string, vni: number, frame: Uint8Array, flags = 8): Uint8Array =>
      udp({
        ...ports(from, NODE, 40_000, 8472),
        data: [flags, 0, 0, 0, vni >> 16, (vni >> 8) & 0xff, vni & 0xff, 0, ...frame],
      });

    it('for a pod is unpacked and delivered, and its sender tracked', () => {
      const { verdict, out, reasons } = send('from_netdev', vxlan('192.168.77.2', 65_792, inner));
      assert.deepEqual([verdict, reasons], [TC_ACT.REDIRECT, ['REASON_FORWARDED']]);
      assert.deepEqual([...out.subarray(14)], [...inner.subarray(14)]);
      const rows = [...datapath.map<unknown, { readonly identity: number }>('conntrack').entries()];
      assert.deepEqual(
        rows.map(([, row]) => row.identity),
        [65_792],
      );
    });

    it('from an address that is no node, or as another cluster or as host, is dropped', () => {
      for (const [from, vni, reason] of [
        ['192.168.77.9', 65_792, 'DROP_TUNNEL_FROM_UNKNOWN_NODE'],
        ['192.168.77.2', 0x20100, 'DROP_TUNNEL_FOREIGN_IDENTITY'],
        ['192.168.77.2', 0x10009, 'DROP_TUNNEL_FOREIGN_IDENTITY'],
        ['192.168.77.2', 1, 'DROP_TUNNEL_FOREIGN_IDENTITY'],
      ] as const)
        assert.deepEqual(send('from_netdev', vxlan(from, vni, inner)).reasons, [reason]);
      assert.equal(
        send('from_netdev', vxlan('192.168.77.2', 6, inner)).verdict,
        TC_ACT.REDIRECT,
        'remote-node',
      );
    });

    it('with a malformed packet inside is dropped, with something odd left to the device', () => {
      const broken = inner.slice();
      broken[16] = 0x40;
      assert.deepEqual(send('from_netdev', vxlan('192.168.77.2', 65_792, broken)).reasons, [
        'DROP_MALFORMED_PACKET',
      ]);
      for (const odd of [
        vxlan('192.168.77.2', 65_792, inner, 0),
        vxlan('192.168.77.2', 65_792, inner.subarray(0, 20)),
        vxlan('192.168.77.2', 65_792, tcp(ports(REMOTE, INTERNAL))),
        vxlan('192.168.77.2', 65_792, ethernet(0x86dd, new Array<number>(60).fill(0))),
      ]) {
        const { verdict, out, reasons } = send('from_netdev', odd);
        assert.deepEqual([verdict, reasons, [...out]], [TC_ACT.OK, [], [...odd]]);
      }
    });
  });
});
