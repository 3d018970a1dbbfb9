import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import type { Datapath } from './object.ts';
import { ethernet, tcp, udp } from './packet.fixture.ts';
import {
  createPrograms,
  FAMILIES,
  IPV4,
  IPV6,
  type Programs,
  ports,
  REMOTE_NODE,
  REMOTE_NODE6,
} from './programs.fixture.ts';
import { TC_ACT } from './test-run.ts';

const OUTER = [
  { outer: 'IPv4', node: IPV4.NODE, remoteNode: REMOTE_NODE, stranger: '192.168.77.9' },
  { outer: 'IPv6', node: IPV6.NODE, remoteNode: REMOTE_NODE6, stranger: 'fd00:77::9' },
];

for (const [inner, { INTERNAL, POD, REMOTE }] of FAMILIES)
  for (const { outer, node, remoteNode, stranger } of OUTER)
    describe(`${inner} in a tunnel over ${outer}, packet by packet`, () => {
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
          ['from_netdev', remoteNode, node],
          ['to_netdev', node, remoteNode],
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
        const packet = tcp(ports(REMOTE, POD, 50_000, 80));
        const vxlan = (from: string, vni: number, frame: Uint8Array, flags = 8): Uint8Array =>
          udp({
            ...ports(from, node, 40_000, 8472),
            data: [flags, 0, 0, 0, vni >> 16, (vni >> 8) & 0xff, vni & 0xff, 0, ...frame],
          });

        it('for a pod is unpacked and delivered, and its sender tracked', () => {
          const { verdict, out, reasons } = send('from_netdev', vxlan(remoteNode, 65_792, packet));
          assert.deepEqual([verdict, reasons], [TC_ACT.REDIRECT, ['REASON_FORWARDED']]);
          assert.deepEqual([...out.subarray(12)], [...packet.subarray(12)]);
          const rows = [...datapath.map<unknown, { readonly identity: number }>('conntrack').entries()];
          assert.deepEqual(
            rows.map(([, row]) => row.identity),
            [65_792],
          );
        });

        it('from an address that is no node, or as another cluster or as host, is dropped', () => {
          for (const [from, vni, reason] of [
            [stranger, 65_792, 'DROP_TUNNEL_FROM_UNKNOWN_NODE'],
            [remoteNode, 0x20100, 'DROP_TUNNEL_FOREIGN_IDENTITY'],
            [remoteNode, 0x10009, 'DROP_TUNNEL_FOREIGN_IDENTITY'],
            [remoteNode, 1, 'DROP_TUNNEL_FOREIGN_IDENTITY'],
          ] as const)
            assert.deepEqual(send('from_netdev', vxlan(from, vni, packet)).reasons, [reason]);
          assert.equal(
            send('from_netdev', vxlan(remoteNode, 6, packet)).verdict,
            TC_ACT.REDIRECT,
            'remote-node',
          );
        });

        it('with a malformed packet inside is dropped, with something odd left to the device', () => {
          const broken = packet.slice();
          broken[inner === 'IPv4' ? 16 : 18] = 0x40;
          assert.deepEqual(send('from_netdev', vxlan(remoteNode, 65_792, broken)).reasons, [
            'DROP_MALFORMED_PACKET',
          ]);
          for (const odd of [
            vxlan(remoteNode, 65_792, packet, 0),
            vxlan(remoteNode, 65_792, packet.subarray(0, 20)),
            vxlan(remoteNode, 65_792, tcp(ports(REMOTE, INTERNAL))),
            vxlan(remoteNode, 65_792, ethernet(0x86dd, new Array<number>(60).fill(0))),
            vxlan(remoteNode, 65_792, ethernet(0x0806, new Array<number>(60).fill(0))),
          ]) {
            const { verdict, out, reasons } = send('from_netdev', odd);
            assert.deepEqual([verdict, reasons, [...out]], [TC_ACT.OK, [], [...odd]]);
          }
        });
      });
    });
