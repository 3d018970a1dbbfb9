import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { parse } from './address.ts';
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

/** Pods and a node of another cluster. */
const [FOREIGN, FOREIGN_NODE] = ['10.2.9.0', '192.168.88.2'];
const [FOREIGN6, FOREIGN_NODE6] = ['fd00:2:9::', 'fd00:88::2'];

for (const [inner, { INTERNAL, NEIGHBOUR, NODE, POD, REMOTE, WORLD }] of FAMILIES)
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

        it('in a mesh of 511 clusters the ID of its cluster begins a bit earlier', async () => {
          using large = await createPrograms({ cluster_shift: 15 });
          for (const [vni, reason] of [
            [(1 << 15) | 256, 'REASON_FORWARDED'],
            [(1 << 15) | 0x7fff, 'REASON_FORWARDED'],
            [(2 << 15) | 256, 'DROP_TUNNEL_FOREIGN_IDENTITY'],
            [(1 << 15) | 9, 'DROP_TUNNEL_FOREIGN_IDENTITY'],
          ] as const)
            assert.deepEqual(large.send('from_netdev', vxlan(remoteNode, vni, packet)).reasons, [reason]);
          for (const each of [REMOTE_NODE, REMOTE_NODE6])
            large.datapath.map('nodes').set({ addr: parse(each) }, { cluster_id: 511, flags: 0 });
          for (const [vni, reason] of [
            [(511 << 15) | 21_459, 'REASON_FORWARDED'],
            [(510 << 15) | 21_459, 'DROP_TUNNEL_FOREIGN_IDENTITY'],
          ] as const)
            assert.deepEqual(large.send('from_netdev', vxlan(remoteNode, vni, packet)).reasons, [reason]);
        });

        it('from an address that is another cluster’s, or this node’s, is dropped; the world’s is not', () => {
          const [foreign, foreignNode] =
            inner === 'IPv4' ? [FOREIGN, FOREIGN_NODE] : [FOREIGN6, FOREIGN_NODE6];
          datapath.map('nodes').set({ addr: parse(FOREIGN_NODE) }, { cluster_id: 2, flags: 0 });
          datapath.map('nodes').set({ addr: parse(FOREIGN_NODE6) }, { cluster_id: 2, flags: 0 });
          programs.ipcache(`${foreign}/${inner === 'IPv4' ? 24 : 64}`, 2, FOREIGN_NODE);
          for (const lie of [foreign, foreignNode, NEIGHBOUR, INTERNAL, NODE])
            assert.deepEqual(
              send('from_netdev', vxlan(remoteNode, 65_792, tcp(ports(lie, POD)))).reasons.filter(
                each => each !== 'REASON_SENDER_NOT_KNOWN_YET',
              ),
              ['DROP_TUNNEL_FOREIGN_SOURCE'],
              lie,
            );
          for (const honest of [REMOTE, WORLD])
            assert.deepEqual(
              send('from_netdev', vxlan(remoteNode, 65_792, tcp(ports(honest, POD)))).reasons,
              ['REASON_FORWARDED'],
            );
        });

        it('from a pod that is not known one by one yet is delivered, and counted', () => {
          const range = { identity: 2, tunnel: parse(remoteNode), encrypt_key: 0, flags: 1 };
          const [length, late] = inner === 'IPv4' ? [96 + 24, '10.1.3.9'] : [64, 'fd00:1:3::9'];
          const network = inner === 'IPv4' ? '10.1.3.0' : 'fd00:1:3::';
          datapath.map('ipcache').set({ prefixlen: 32 + length, cluster_id: 0, addr: parse(network) }, range);
          const { reasons } = send('from_netdev', vxlan(remoteNode, 65_792, tcp(ports(late, POD))));
          assert.deepEqual([...reasons].sort(), ['REASON_FORWARDED', 'REASON_SENDER_NOT_KNOWN_YET']);
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
