import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import type { Datapath } from './object.ts';
import {
  arpRequest,
  ethernet,
  icmp,
  ipv4,
  PROTO,
  read,
  readIpv4,
  TCP_FLAG,
  tcp,
  udp,
  udpDatagram,
} from './packet.fixture.ts';
import {
  createPrograms,
  DEVICE,
  EMPTY_VIP,
  INTERNAL,
  NEIGHBOUR,
  NODE,
  POD,
  type Programs,
  ports,
  REMOTE,
  REMOTE_NODE,
  VIP,
  WORLD,
} from './programs.fixture.ts';
import { TC_ACT } from './test-run.ts';

describe('programs, packet by packet (BPF_PROG_TEST_RUN)', () => {
  let programs: Programs;
  let datapath: Datapath;
  let send: Programs['send'];
  before(async () => {
    programs = await createPrograms();
    ({ datapath, send } = programs);
  });
  after(() => programs?.[Symbol.dispose]());
  beforeEach(() => programs.forget());

  describe('what a pod must not send is dropped and counted by reason', () => {
    const good = [...tcp(ports(POD, REMOTE))];
    const patched = (at: number, ...bytes: number[]): Uint8Array =>
      Uint8Array.from([...good.slice(0, at), ...bytes, ...good.slice(at + bytes.length)]);
    const quote = ipv4({
      from: REMOTE,
      to: POD,
      protocol: PROTO.udp,
      payload: udpDatagram(ports(REMOTE, POD)),
    });
    const cases: readonly (readonly [string, Uint8Array, string])[] = [
      ['another pod as source', tcp(ports(NEIGHBOUR, REMOTE)), 'DROP_INVALID_SOURCE'],
      ['the world as source', tcp(ports(WORLD, REMOTE)), 'DROP_INVALID_SOURCE'],
      ['a tunnel packet to a node', udp(ports(POD, '192.168.77.2', 40_000, 8472)), 'DROP_TUNNEL_FROM_POD'],
      ['IPv6', ethernet(0x86dd, new Array<number>(60).fill(0)), 'DROP_UNSUPPORTED_L3'],
      ['neither IP nor ARP', ethernet(0x88cc, new Array<number>(60).fill(0)), 'DROP_UNSUPPORTED_L3'],
      ['IP version 6 under the type of IPv4', patched(14, 0x65), 'DROP_MALFORMED_PACKET'],
      ['a header length of 16', patched(14, 0x44), 'DROP_MALFORMED_PACKET'],
      ['options beyond the end', patched(14, 0x4f), 'DROP_MALFORMED_PACKET'],
      ['a total length beyond the frame', patched(16, 0x40, 0), 'DROP_MALFORMED_PACKET'],
      ['a total length below the header', patched(16, 0, 19), 'DROP_MALFORMED_PACKET'],
      [
        'a TCP header cut off',
        ethernet(0x0800, ipv4({ from: POD, to: REMOTE, protocol: PROTO.tcp, payload: good.slice(34, 46) })),
        'DROP_MALFORMED_PACKET',
      ],
      ['a TCP data offset of 4', patched(46, 0x40), 'DROP_MALFORMED_PACKET'],
      [
        'a UDP header cut off',
        ethernet(0x0800, ipv4({ from: POD, to: REMOTE, protocol: PROTO.udp, payload: [0, 1, 0, 2] })),
        'DROP_MALFORMED_PACKET',
      ],
      ['an ICMP error without a quote', icmp(POD, REMOTE, 3, 3, [0, 0, 0, 0]), 'DROP_MALFORMED_PACKET'],
      [
        'an ICMP error about a packet the receiver never sent',
        icmp(POD, WORLD, 3, 3, [0, 0, 0, 0, ...quote]),
        'DROP_MALFORMED_PACKET',
      ],
      [
        'an ICMP error about a packet the pod never got',
        icmp(POD, REMOTE, 3, 3, [
          0,
          0,
          0,
          0,
          ...ipv4({
            from: REMOTE,
            to: NEIGHBOUR,
            protocol: PROTO.udp,
            payload: udpDatagram(ports(REMOTE, NEIGHBOUR)),
          }),
        ]),
        'DROP_INVALID_SOURCE',
      ],
      [
        'a later fragment whose first never came',
        ethernet(
          0x0800,
          ipv4({
            from: POD,
            to: REMOTE,
            protocol: PROTO.udp,
            payload: [1, 2, 3, 4, 5, 6, 7, 8],
            fragment: 0x0010,
          }),
        ),
        'DROP_FRAGMENT_UNKNOWN',
      ],
    ];
    for (const [name, packet, reason] of cases)
      it(name, () => {
        const { verdict, reasons } = send('from_pod', packet);
        assert.deepEqual([verdict, reasons], [TC_ACT.SHOT, [reason]]);
      });
  });

  it('to a pod here, there, the node', () => {
    const local = send('from_pod', tcp(ports(POD, NEIGHBOUR)));
    assert.deepEqual([local.verdict, local.reasons], [TC_ACT.REDIRECT, ['REASON_FORWARDED']]);
    assert.deepEqual(
      [...local.out.subarray(0, 12)],
      [2, 0, 0, 0, 1, 1, 2, 0, 0, 0, 1, 2],
      'the pod’s own MACs',
    );
    assert.equal(send('from_pod', tcp(ports(POD, REMOTE))).verdict, TC_ACT.REDIRECT);
    const node = send('from_pod', tcp(ports(POD, NODE)));
    assert.deepEqual([node.verdict, node.reasons], [TC_ACT.OK, ['REASON_TO_STACK']]);
  });

  it('one conntrack row for both directions, with what TCP said', () => {
    send('from_pod', tcp(ports(POD, NEIGHBOUR, 40_001)));
    type Row = { readonly flags: number; readonly expires: number };
    const rows = (): Row[] => [...datapath.map<unknown, Row>('conntrack').entries()].map(([, row]) => row);
    assert.equal(rows().length, 1);
    assert.ok(rows()[0]!.flags & 4, 'SYN');
    const first = rows()[0]!.expires;
    programs.endpoint(NEIGHBOUR, DEVICE, 0);
    send('from_pod', tcp({ ...ports(NEIGHBOUR, POD, 80, 40_001), flags: TCP_FLAG.syn | TCP_FLAG.ack }));
    assert.equal(rows().length, 1);
    assert.ok(rows()[0]!.flags & 8, 'replied');
    assert.ok(rows()[0]!.expires > first + 1000, 'lives as long as an established connection');
    send('from_pod', tcp({ ...ports(POD, NEIGHBOUR, 40_001), flags: TCP_FLAG.rst }));
    assert.ok(rows()[0]!.expires < first + 10, 'and not after a reset');
    programs.endpoint(NEIGHBOUR, DEVICE + 1000, 0);
  });

  it('a service: translated there and back, checksums right', () => {
    for (const make of [tcp, udp]) {
      const port = make === tcp ? 80 : 53;
      const backendPort = make === tcp ? 8080 : 5353;
      const there = send('from_pod', make(ports(POD, VIP, 40_002, port)));
      const sent = read(there.out);
      assert.deepEqual(
        [sent.from, sent.to, sent.fromPort, sent.toPort, sent.sound],
        [POD, REMOTE, 40_002, backendPort, true],
      );
      // The way back enters by the uplink here, where no tunnel key is needed for a test.
      programs.ipcache(`${REMOTE}/32`, 65_792, undefined);
      const back = read(
        send(
          'from_netdev',
          make({
            ...ports(REMOTE, POD, backendPort, 40_002),
            ...(make === tcp ? { flags: TCP_FLAG.syn | TCP_FLAG.ack } : {}),
          }),
        ).out,
      );
      programs.ipcache(`${REMOTE}/32`, 65_792, REMOTE_NODE);
      assert.deepEqual(
        [back.from, back.to, back.fromPort, back.toPort, back.sound],
        [VIP, POD, port, 40_002, true],
      );
    }
  });

  it('a UDP datagram without a checksum stays without', () => {
    const frame = udp(ports(POD, VIP, 40_003, 53));
    frame.set([0, 0], 40);
    assert.deepEqual([...send('from_pod', frame).out.subarray(40, 42)], [0, 0]);
  });

  it('a pod that reaches itself by its service gets another source, and its reply the frontend', () => {
    const there = read(send('from_pod', tcp(ports(POD, VIP, 40_004, 81))).out);
    assert.deepEqual([there.from, there.to, there.toPort, there.sound], ['169.254.42.1', POD, 8080, true]);
    const back = read(
      send(
        'from_pod',
        tcp({ ...ports(POD, '169.254.42.1', 8080, 40_004), flags: TCP_FLAG.syn | TCP_FLAG.ack }),
      ).out,
    );
    assert.deepEqual(
      [back.from, back.to, back.fromPort, back.toPort, back.sound],
      [VIP, POD, 81, 40_004, true],
    );
  });

  it('no backend: TCP gets a reset that answers its sequence number', () => {
    const { verdict, out, reasons } = send(
      'from_pod',
      tcp({ ...ports(POD, EMPTY_VIP), sequence: 77, data: [1, 2, 3] }),
    );
    assert.deepEqual([verdict, reasons], [TC_ACT.REDIRECT, ['REASON_REFUSED_NO_BACKEND']]);
    const seen = read(out);
    assert.deepEqual(
      [
        seen.from,
        seen.to,
        seen.fromPort,
        seen.toPort,
        seen.flags,
        seen.sequence,
        seen.acknowledge,
        seen.sound,
      ],
      [EMPTY_VIP, POD, 80, 40_000, TCP_FLAG.rst | TCP_FLAG.ack, 0, 77 + 1 + 3, true],
    );
    const acked = read(
      send('from_pod', tcp({ ...ports(POD, EMPTY_VIP), flags: TCP_FLAG.ack, acknowledge: 5000 })).out,
    );
    assert.deepEqual([acked.flags, acked.sequence, acked.sound], [TCP_FLAG.rst, 5000, true]);
    assert.equal(
      send('from_pod', tcp({ ...ports(POD, EMPTY_VIP), flags: TCP_FLAG.rst })).verdict,
      TC_ACT.SHOT,
      'no reset answers a reset',
    );
  });

  it('no backend: UDP gets a port unreachable that quotes it', () => {
    const { verdict, out } = send('from_pod', udp(ports(POD, EMPTY_VIP, 40_000, 53)));
    assert.equal(verdict, TC_ACT.REDIRECT);
    const seen = read(out);
    assert.deepEqual([seen.from, seen.to, seen.protocol, seen.sound], [EMPTY_VIP, POD, PROTO.icmp, true]);
    assert.deepEqual([...seen.payload.subarray(0, 2)], [3, 3]);
    const quoted = readIpv4(seen.payload.subarray(8), true);
    assert.deepEqual([quoted.from, quoted.to, quoted.fromPort, quoted.toPort], [POD, EMPTY_VIP, 40_000, 53]);
  });

  it('fragments follow their first through a service', () => {
    const whole = udpDatagram({ ...ports(POD, VIP, 40_020, 53), data: new Array<number>(40).fill(7) });
    const fragment = (payload: number[], flags: number): Uint8Array =>
      ethernet(0x0800, ipv4({ from: POD, to: VIP, protocol: PROTO.udp, payload, id: 99, fragment: flags }));
    const first = read(send('from_pod', fragment(whole.slice(0, 24), 0x2000)).out);
    const later = read(send('from_pod', fragment(whole.slice(24), 3)).out);
    assert.deepEqual([first.to, first.toPort, later.to], [REMOTE, 5353, REMOTE]);
    assert.deepEqual([...later.payload], whole.slice(24));
  });

  it('ARP: asked by the pod it is answered, a search for a duplicate is not', () => {
    const { verdict, out } = send('from_pod', arpRequest(POD, INTERNAL));
    assert.equal(verdict, TC_ACT.REDIRECT);
    assert.deepEqual([...out.subarray(20, 32)], [0, 2, 2, 0, 0, 0, 1, 2, ...INTERNAL.split('.').map(Number)]);
    assert.equal(send('from_pod', arpRequest(POD, POD)).verdict, TC_ACT.SHOT);
    assert.equal(send('from_pod', arpRequest(NEIGHBOUR, INTERNAL)).verdict, TC_ACT.SHOT);
  });
});
