import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { addressBytes } from '../api/ip-address.ts';
import { parse } from './address.ts';
import type { L2ResponderKey, L2ResponderValue } from './l2-responder.ts';
import type { Datapath } from './object.ts';
import {
  arpRequest,
  EXTENSION,
  ethernet,
  extension,
  fragmentHeader,
  frame,
  icmp,
  icmpTypes,
  ip,
  ipv4,
  ipv6,
  neighbourSolicitation,
  PROTO,
  read,
  readIp,
  TCP_FLAG,
  tcp,
  udp,
  udpDatagram,
} from './packet.fixture.ts';
import {
  createPrograms,
  DEVICE,
  FAMILIES,
  IPV4,
  IPV6,
  type Programs,
  ports,
  REMOTE_NODE,
  REMOTE_NODE6,
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

  const dropped = (cases: readonly (readonly [string, Uint8Array, string])[]): void => {
    for (const [name, packet, reason] of cases)
      it(name, () => {
        const { verdict, reasons } = send('from_pod', packet);
        assert.deepEqual([verdict, reasons], [TC_ACT.SHOT, [reason]]);
      });
  };
  /** A frame with some bytes exchanged. */
  const patched = (good: Uint8Array, at: number, ...bytes: number[]): Uint8Array => {
    const out = good.slice();
    out.set(bytes, at);
    return out;
  };

  describe('of IPv4, what a pod must not send is dropped and counted by reason', () => {
    const { POD, REMOTE } = IPV4;
    const good = tcp(ports(POD, REMOTE));
    dropped([
      ['neither IP nor ARP', ethernet(0x88cc, new Array<number>(60).fill(0)), 'DROP_UNSUPPORTED_L3'],
      ['IP version 6 under the type of IPv4', patched(good, 14, 0x65), 'DROP_MALFORMED_PACKET'],
      ['a header length of 16', patched(good, 14, 0x44), 'DROP_MALFORMED_PACKET'],
      ['options beyond the end', patched(good, 14, 0x4f), 'DROP_MALFORMED_PACKET'],
      ['a total length beyond the frame', patched(good, 16, 0x40, 0), 'DROP_MALFORMED_PACKET'],
      ['a total length below the header', patched(good, 16, 0, 19), 'DROP_MALFORMED_PACKET'],
      ['a TCP data offset of 4', patched(good, 46, 0x40), 'DROP_MALFORMED_PACKET'],
      [
        'a later fragment whose first never came',
        frame(
          ipv4({
            from: POD,
            to: REMOTE,
            protocol: PROTO.udp,
            payload: [1, 2, 3, 4, 5, 6, 7, 8],
            fragment: 2,
          }),
        ),
        'DROP_FRAGMENT_UNKNOWN',
      ],
    ]);
  });

  describe('of IPv6, what a pod must not send is dropped and counted by reason', () => {
    const { POD, REMOTE } = IPV6;
    const good = tcp(ports(POD, REMOTE));
    const datagram = udpDatagram(ports(POD, REMOTE));
    const after = (next: number, ...payload: readonly number[]): Uint8Array =>
      frame(ipv6({ from: POD, to: REMOTE, next, payload }));
    dropped([
      ['IP version 4 under the type of IPv6', patched(good, 14, 0x45), 'DROP_MALFORMED_PACKET'],
      ['a payload length beyond the frame', patched(good, 18, 0x40, 0), 'DROP_MALFORMED_PACKET'],
      ['a TCP header beyond the payload length', patched(good, 18, 0, 19), 'DROP_MALFORMED_PACKET'],
      ['a TCP data offset of 4', patched(good, 66, 0x40), 'DROP_MALFORMED_PACKET'],
      ['an ICMPv6 header cut off', after(PROTO.icmpv6, 128, 0, 0, 0), 'DROP_MALFORMED_PACKET'],
      ['an extension header cut off', after(EXTENSION.destination, PROTO.udp, 0, 1), 'DROP_MALFORMED_PACKET'],
      [
        'an extension header longer than the packet',
        after(EXTENSION.destination, PROTO.udp, 200, 1, 4, 0, 0, 0, 0, ...datagram),
        'DROP_MALFORMED_PACKET',
      ],
      [
        'hop-by-hop options behind another header',
        after(EXTENSION.destination, ...extension(EXTENSION.hopByHop), ...extension(PROTO.udp), ...datagram),
        'DROP_IPV6_EXTENSION_HEADER',
      ],
      [
        'a routing header with a segment left',
        after(EXTENSION.routing, ...extension(PROTO.udp, [0, 1, 0, 0, 0, 0]), ...datagram),
        'DROP_IPV6_EXTENSION_HEADER',
      ],
      [
        'a fragment of a fragment',
        after(
          EXTENSION.fragment,
          ...fragmentHeader(EXTENSION.fragment, 1, 5),
          ...fragmentHeader(PROTO.udp, 1, 5),
          ...datagram,
        ),
        'DROP_IPV6_EXTENSION_HEADER',
      ],
      [
        'more extension headers than anybody needs',
        after(
          EXTENSION.destination,
          ...new Array(6).fill(extension(EXTENSION.destination)).flat(),
          ...extension(PROTO.udp),
          ...datagram,
        ),
        'DROP_IPV6_EXTENSION_HEADER',
      ],
      [
        'a first fragment without the ports',
        after(EXTENSION.fragment, ...fragmentHeader(PROTO.udp, 1, 5)),
        'DROP_MALFORMED_PACKET',
      ],
      [
        'a later fragment whose first never came',
        after(EXTENSION.fragment, ...fragmentHeader(PROTO.udp, 16, 7), ...datagram),
        'DROP_FRAGMENT_UNKNOWN',
      ],
      ['to a multicast group', udp(ports(POD, 'ff02::fb', 5353, 5353)), 'DROP_LINK_SCOPE'],
      ['from a link-local address', udp(ports('fe80::2', REMOTE)), 'DROP_LINK_SCOPE'],
      ['a router advertisement', icmp(POD, REMOTE, 134, 0, new Array<number>(12).fill(0)), 'DROP_LINK_SCOPE'],
      ['a redirect', icmp(POD, REMOTE, 137, 0, new Array<number>(36).fill(0)), 'DROP_LINK_SCOPE'],
      ['a forwarded solicitation', neighbourSolicitation(POD, IPV6.INTERNAL, 254), 'DROP_LINK_SCOPE'],
      [
        'a solicitation in the name of another pod',
        neighbourSolicitation(IPV6.NEIGHBOUR, IPV6.INTERNAL),
        'DROP_INVALID_SOURCE',
      ],
    ]);
  });

  it('of IPv6, options and a routing header that is done lead to the flow of a packet without', () => {
    const { POD, VIP, REMOTE } = IPV6;
    const datagram = udpDatagram(ports(POD, VIP, 40_030, 53));
    for (const chain of [
      [EXTENSION.hopByHop, ...extension(PROTO.udp)],
      [EXTENSION.destination, ...extension(PROTO.udp)],
      [EXTENSION.routing, ...extension(PROTO.udp, [4, 0, 0, 0, 0, 0])],
      [EXTENSION.fragment, ...fragmentHeader(PROTO.udp, 0, 6)],
      [EXTENSION.hopByHop, ...extension(EXTENSION.destination), ...extension(PROTO.udp)],
    ]) {
      const [next = 0, ...headers] = chain;
      const { out } = send(
        'from_pod',
        frame(ipv6({ from: POD, to: VIP, next, payload: [...headers, ...datagram] })),
      );
      const seen = read(out);
      assert.deepEqual([seen.to, seen.fromPort, seen.toPort, seen.sound], [REMOTE, 40_030, 5353, true]);
      assert.deepEqual([...out.subarray(54, 54 + headers.length)], headers);
    }
  });

  for (const [name, { EMPTY_VIP, HAIRPIN, NEIGHBOUR, NODE: NODE_IP, POD, REMOTE, VIP, WORLD }] of FAMILIES)
    describe(name, () => {
      const types = icmpTypes(POD);
      const error = (from: string, to: string, quote: readonly number[]): Uint8Array =>
        icmp(from, to, types.unreachable, types.portUnreachable, [0, 0, 0, 0, ...quote]);
      const quoteOf = (from: string, to: string): number[] =>
        ip(from, to, PROTO.udp, udpDatagram(ports(from, to)));

      describe('what a pod must not send is dropped and counted by reason', () => {
        dropped([
          ['another pod as source', tcp(ports(NEIGHBOUR, REMOTE)), 'DROP_INVALID_SOURCE'],
          ['the world as source', tcp(ports(WORLD, REMOTE)), 'DROP_INVALID_SOURCE'],
          [
            'a tunnel packet to a node',
            udp(ports(POD, name === 'IPv4' ? REMOTE_NODE : REMOTE_NODE6, 40_000, 8472)),
            'DROP_TUNNEL_FROM_POD',
          ],
          [
            'a TCP header cut off',
            frame(ip(POD, REMOTE, PROTO.tcp, [...tcp(ports(POD, REMOTE)).subarray(-20, -8)])),
            'DROP_MALFORMED_PACKET',
          ],
          ['a UDP header cut off', frame(ip(POD, REMOTE, PROTO.udp, [0, 1, 0, 2])), 'DROP_MALFORMED_PACKET'],
          ['an ICMP error without a quote', error(POD, REMOTE, []), 'DROP_MALFORMED_PACKET'],
          [
            'an ICMP error about a packet the receiver never sent',
            error(POD, WORLD, quoteOf(REMOTE, POD)),
            'DROP_MALFORMED_PACKET',
          ],
          [
            'an ICMP error about a packet the pod never got',
            error(POD, REMOTE, quoteOf(REMOTE, NEIGHBOUR)),
            'DROP_INVALID_SOURCE',
          ],
        ]);
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
        const node = send('from_pod', tcp(ports(POD, NODE_IP)));
        assert.deepEqual([node.verdict, node.reasons], [TC_ACT.OK, ['REASON_TO_STACK']]);
      });

      it('a packet to loopback reaches no service: a hostPort there is for sockets of the node', () => {
        const loopback = name === 'IPv4' ? '127.0.0.1' : '::1';
        programs.service(60, loopback, 80, PROTO.tcp, [{ id: 60, address: REMOTE, port: 8080 }]);
        const { out } = send('from_pod', tcp(ports(POD, loopback, 40_060)));
        assert.equal(read(out).to, loopback);
      });

      it('one conntrack row for both directions, with what TCP said', () => {
        send('from_pod', tcp(ports(POD, NEIGHBOUR, 40_001)));
        type Row = { readonly flags: number; readonly expires: number };
        const rows = (): Row[] =>
          [...datapath.map<unknown, Row>('conntrack').entries()].map(([, row]) => row);
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
          programs.ipcache(`${REMOTE}/${name === 'IPv4' ? 32 : 128}`, 65_792, undefined);
          const back = read(
            send(
              'from_netdev',
              make({
                ...ports(REMOTE, POD, backendPort, 40_002),
                ...(make === tcp ? { flags: TCP_FLAG.syn | TCP_FLAG.ack } : {}),
              }),
            ).out,
          );
          programs.ipcache(`${REMOTE}/${name === 'IPv4' ? 32 : 128}`, 65_792, REMOTE_NODE);
          assert.deepEqual(
            [back.from, back.to, back.fromPort, back.toPort, back.sound],
            [VIP, POD, port, 40_002, true],
          );
        }
      });

      it('a pod that reaches itself by its service gets another source, and its reply the frontend', () => {
        const there = read(send('from_pod', tcp(ports(POD, VIP, 40_004, 81))).out);
        assert.deepEqual([there.from, there.to, there.toPort, there.sound], [HAIRPIN, POD, 8080, true]);
        const back = read(
          send('from_pod', tcp({ ...ports(POD, HAIRPIN, 8080, 40_004), flags: TCP_FLAG.syn | TCP_FLAG.ack }))
            .out,
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
        assert.deepEqual(
          [seen.from, seen.to, seen.protocol, seen.sound],
          [EMPTY_VIP, POD, name === 'IPv4' ? PROTO.icmp : PROTO.icmpv6, true],
        );
        assert.deepEqual([...seen.payload.subarray(0, 2)], [types.unreachable, types.portUnreachable]);
        const quoted = readIp(seen.payload.subarray(8), true);
        assert.deepEqual(
          [quoted.from, quoted.to, quoted.fromPort, quoted.toPort],
          [POD, EMPTY_VIP, 40_000, 53],
        );
      });

      it('fragments follow their first through a service', () => {
        const whole = udpDatagram({ ...ports(POD, VIP, 40_020, 53), data: new Array<number>(40).fill(7) });
        const fragment = (payload: number[], flags: number): Uint8Array =>
          name === 'IPv4'
            ? frame(ipv4({ from: POD, to: VIP, protocol: PROTO.udp, payload, id: 99, fragment: flags }))
            : frame(
                ipv6({
                  from: POD,
                  to: VIP,
                  next: EXTENSION.fragment,
                  payload: [
                    ...fragmentHeader(PROTO.udp, (flags & 0x1fff) * 8 + (flags & 0x2000 ? 1 : 0), 99),
                    ...payload,
                  ],
                }),
              );
        const first = read(send('from_pod', fragment(whole.slice(0, 24), 0x2000)).out);
        const later = read(send('from_pod', fragment(whole.slice(24), 3)).out);
        assert.deepEqual([first.to, first.toPort, later.to], [REMOTE, 5353, REMOTE]);
        assert.deepEqual([...later.payload], whole.slice(24));
      });

      it('an ICMP error about what a service sent speaks of the frontend', () => {
        send('from_pod', udp(ports(POD, VIP, 40_040, 53)));
        const quote = ip(POD, REMOTE, PROTO.udp, udpDatagram(ports(POD, REMOTE, 40_040, 5353)).slice(0, 8));
        programs.ipcache(`${REMOTE}/${name === 'IPv4' ? 32 : 128}`, 65_792, undefined);
        const seen = read(send('from_netdev', error(REMOTE, POD, quote)).out);
        programs.ipcache(`${REMOTE}/${name === 'IPv4' ? 32 : 128}`, 65_792, REMOTE_NODE);
        assert.deepEqual([seen.from, seen.to, seen.sound], [VIP, POD, true]);
        const quoted = readIp(seen.payload.subarray(8), true);
        assert.deepEqual([quoted.from, quoted.to, quoted.fromPort, quoted.toPort], [POD, VIP, 40_040, 53]);
      });

      it('what the table of routes does not know, or has no hops left, goes to the stack, which tells the sender', () => {
        const { verdict, reasons } = send('from_pod', tcp(ports(POD, WORLD)));
        assert.deepEqual([verdict, reasons], [TC_ACT.OK, ['REASON_TO_STACK']]);
      });
    });

  it('of IPv4, a UDP datagram without a checksum stays without', () => {
    const { POD, VIP } = IPV4;
    const datagram = udp(ports(POD, VIP, 40_003, 53));
    datagram.set([0, 0], 40);
    assert.deepEqual([...send('from_pod', datagram).out.subarray(40, 42)], [0, 0]);
  });

  it('ARP: asked by the pod it is answered, a search for a duplicate is not', () => {
    const { INTERNAL, NEIGHBOUR, POD } = IPV4;
    const { verdict, out } = send('from_pod', arpRequest(POD, INTERNAL));
    assert.equal(verdict, TC_ACT.REDIRECT);
    assert.deepEqual([...out.subarray(20, 32)], [0, 2, 2, 0, 0, 0, 1, 2, ...INTERNAL.split('.').map(Number)]);
    assert.equal(send('from_pod', arpRequest(POD, POD)).verdict, TC_ACT.SHOT);
    assert.equal(send('from_pod', arpRequest(NEIGHBOUR, INTERNAL)).verdict, TC_ACT.SHOT);
  });

  it('neighbour discovery: asked by the pod it is answered, a search for a duplicate is not', () => {
    const { INTERNAL, POD } = IPV6;
    for (const target of [INTERNAL, 'fe80::1']) {
      const { verdict, out, reasons } = send('from_pod', neighbourSolicitation(POD, target));
      assert.deepEqual([verdict, reasons], [TC_ACT.REDIRECT, []]);
      const seen = read(out);
      assert.deepEqual([seen.from, seen.to, seen.ttl, seen.sound], [target, POD, 255, true]);
      const hostMac = [2, 0, 0, 0, 1, 2];
      assert.deepEqual([...out.subarray(0, 12)], [2, 0, 0, 0, 1, 1, ...hostMac]);
      assert.deepEqual(
        [...seen.payload.subarray(0, 2), ...seen.payload.subarray(4)],
        [136, 0, 0xe0, 0, 0, 0, ...addressBytes(target), 2, 1, ...hostMac],
      );
    }
    for (const from of ['::', POD])
      assert.equal(send('from_pod', neighbourSolicitation(from, POD)).verdict, TC_ACT.SHOT);
  });

  it('what is said on a link stays the node’s own at an uplink, and goes no further elsewhere', () => {
    const { REMOTE, NODE: node } = IPV6;
    const packet = neighbourSolicitation('fe80::9', node);
    for (const program of ['from_netdev', 'to_netdev'] as const)
      assert.deepEqual([send(program, packet).verdict, send(program, packet).reasons], [TC_ACT.OK, []]);
    assert.equal(send('from_host', neighbourSolicitation(node, REMOTE)).verdict, TC_ACT.SHOT);
  });

  it('ARP on the uplink: answered for an announced address, with the device’s MAC', () => {
    const { EMPTY_VIP, NODE, VIP, WORLD } = IPV4;
    const map = datapath.map<L2ResponderKey, L2ResponderValue>('l2_responders');
    const row = { addr: parse(VIP), ifindex: DEVICE };
    const elsewhere = { addr: parse(EMPTY_VIP), ifindex: DEVICE + 1 };
    const mac = Uint8Array.of(2, 0, 0, 0, 9, 9);
    for (const key of [row, elsewhere]) map.set(key, { mac, answers: 0 });
    const { verdict, out } = send('from_netdev', arpRequest(WORLD, VIP));
    assert.equal(verdict, TC_ACT.REDIRECT);
    assert.deepEqual([...out.subarray(0, 12)], [2, 0, 0, 0, 0, 2, ...mac], 'to who asked');
    assert.deepEqual([...out.subarray(20, 32)], [0, 2, ...mac, ...VIP.split('.').map(Number)]);
    assert.deepEqual([...out.subarray(32, 42)], [2, 0, 0, 0, 0, 2, ...WORLD.split('.').map(Number)]);
    assert.equal(map.get(row)?.answers, 1);
    const left: readonly (readonly [string, Uint8Array])[] = [
      ['an address announced on another device', arpRequest(WORLD, EMPTY_VIP)],
      ['an address nobody announces', arpRequest(WORLD, NODE)],
      ['an announcement of another node', arpRequest(VIP, VIP)],
      ['a packet cut off', arpRequest(WORLD, VIP).slice(0, 30)],
    ];
    for (const [name, packet] of left) {
      const sent = send('from_netdev', packet);
      assert.equal(sent.verdict, TC_ACT.OK, name);
      assert.deepEqual([...sent.out], [...packet], name);
    }
    assert.equal(map.get(row)?.answers, 1);
    for (const key of [row, elsewhere]) map.delete(key);
  });

  it('neighbour discovery on the uplink: answered for an announced address, with the device’s MAC', () => {
    const { EMPTY_VIP, NODE, VIP, WORLD } = IPV6;
    const map = datapath.map<L2ResponderKey, L2ResponderValue>('l2_responders');
    const row = { addr: parse(VIP), ifindex: DEVICE };
    const elsewhere = { addr: parse(EMPTY_VIP), ifindex: DEVICE + 1 };
    const mac = Uint8Array.of(2, 0, 0, 0, 9, 9);
    for (const key of [row, elsewhere]) map.set(key, { mac, answers: 0 });
    for (const from of [WORLD, 'fe80::9']) {
      const question = neighbourSolicitation(from, VIP);
      const { verdict, out, reasons } = send('from_netdev', question);
      assert.deepEqual([verdict, reasons], [TC_ACT.REDIRECT, []]);
      const seen = read(out);
      assert.deepEqual([seen.from, seen.to, seen.ttl, seen.sound], [VIP, from, 255, true]);
      assert.deepEqual([...out.subarray(0, 12)], [...question.subarray(6, 12), ...mac], 'to who asked');
      assert.deepEqual(
        [...seen.payload.subarray(0, 2), ...seen.payload.subarray(4)],
        [136, 0, 0x60, 0, 0, 0, ...addressBytes(VIP), 2, 1, ...mac],
        'solicited, to override, not of a router',
      );
    }
    assert.equal(map.get(row)?.answers, 2);
    const left: readonly (readonly [string, Uint8Array])[] = [
      ['an address announced on another device', neighbourSolicitation(WORLD, EMPTY_VIP)],
      ['an address nobody announces', neighbourSolicitation(WORLD, NODE)],
      ['a search for a duplicate', neighbourSolicitation('::', VIP)],
      ['a question that was forwarded', neighbourSolicitation(WORLD, VIP, 254)],
      ['a packet cut off', neighbourSolicitation(WORLD, VIP).slice(0, 70)],
    ];
    for (const [name, packet] of left) {
      const sent = send('from_netdev', packet);
      assert.equal(sent.verdict, TC_ACT.OK, name);
      assert.deepEqual([...sent.out], [...packet], name);
    }
    assert.equal(map.get(row)?.answers, 2);
    for (const key of [row, elsewhere]) map.delete(key);
  });
});
