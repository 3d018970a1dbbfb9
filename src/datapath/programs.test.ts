import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { buildBpf } from '../../deploy/build.ts';
import { parse, parsePrefix } from './address.ts';
import { type Datapath, loadDatapath, type TcxProgram } from './object.ts';
import {
  arpRequest,
  ethernet,
  icmp,
  ipv4,
  type Ports,
  PROTO,
  read,
  readIpv4,
  TCP_FLAG,
  tcp,
  udp,
  udpDatagram,
} from './packet.fixture.ts';
import { TC_ACT } from './test-run.ts';

/** Loopback stands for the pod's device: packets of a test run come from it. */
const DEVICE = 1;
const POD = '10.1.1.2';
const NEIGHBOUR = '10.1.1.3';
const REMOTE = '10.1.2.2';
const NODE = '192.168.77.1';
const INTERNAL = '10.1.1.1';
const WORLD = '198.51.100.7';
const VIP = '10.96.0.10';
const EMPTY_VIP = '10.96.0.99';

describe('programs, packet by packet (BPF_PROG_TEST_RUN)', () => {
  let folder: string;
  let datapath: Datapath;
  before(async () => {
    const objectPath = await buildBpf();
    folder = mkdtempSync(join(tmpdir(), 'isthmus-programs-'));
    execFileSync('mount', ['-t', 'bpf', 'bpf', folder]);
    datapath = loadDatapath({
      objectPath,
      bpffs: folder,
      config: {
        node_ip: parse(NODE),
        internal_ip: parse(INTERNAL),
        hairpin_ip: parse('169.254.42.1'),
        host_netns_cookie: 1n,
        host_ifindex: DEVICE,
        vxlan_ifindex: DEVICE,
        flags: 0,
        cluster_id: 1,
        nat_port_min: 61000,
        nat_port_max: 61003,
        vxlan_port: 8472,
        host_mac: new Uint8Array(6),
      },
    });
    endpoint(POD, DEVICE, 0);
    endpoint(NEIGHBOUR, DEVICE + 1000, 0);
    endpoint(NODE, 0, 1);
    endpoint(INTERNAL, 0, 1);
    datapath.map('nodes').set({ addr: parse('192.168.77.2') }, { cluster_id: 1, flags: 2 });
    ipcache(`${REMOTE}/32`, 65792, '192.168.77.2');
    ipcache('10.1.1.0/24', 2, NODE);
    datapath.map('nodes').set({ addr: parse('192.168.77.2') }, { cluster_id: 1, flags: 0 });
    service(1, VIP, 80, PROTO.tcp, [{ id: 1, address: REMOTE, port: 8080 }]);
    service(2, VIP, 53, PROTO.udp, [{ id: 2, address: REMOTE, port: 5353 }]);
    service(3, EMPTY_VIP, 80, PROTO.tcp, []);
    service(4, EMPTY_VIP, 53, PROTO.udp, []);
    service(5, VIP, 81, PROTO.tcp, [{ id: 3, address: POD, port: 8080 }]);
  });
  after(() => {
    datapath?.[Symbol.dispose]();
    execFileSync('umount', ['-l', folder]);
    rmSync(folder, { recursive: true });
  });
  beforeEach(() => {
    for (const name of ['conntrack', 'nat', 'fragments'] as const)
      for (const [key] of [...datapath.map(name).entries()]) datapath.map(name).delete(key);
  });

  const endpoint = (address: string, ifindex: number, flags: number): void =>
    datapath.map('endpoints').set(
      { cluster_id: 0, addr: parse(address) },
      {
        ifindex,
        identity: 65800,
        endpoint_id: 1,
        policy_set: 0,
        mac: Uint8Array.of(2, 0, 0, 0, 1, 1),
        host_mac: Uint8Array.of(2, 0, 0, 0, 1, 2),
        flags,
      },
    );
  const ipcache = (prefix: string, identity: number, tunnel: string): void => {
    const { addr, length } = parsePrefix(prefix);
    datapath
      .map('ipcache')
      .set(
        { prefixlen: 32 + length, cluster_id: 0, addr },
        { identity, tunnel: parse(tunnel), encrypt_key: 0, flags: 0 },
      );
  };
  const service = (
    id: number,
    address: string,
    port: number,
    proto: number,
    backends: readonly { readonly id: number; readonly address: string; readonly port: number }[],
  ): void => {
    for (const [slot, backend] of backends.entries()) {
      datapath
        .map('backends')
        .set(
          { backend_id: backend.id },
          { addr: parse(backend.address), port: backend.port, proto, flags: 0, cluster_id: 0 },
        );
      datapath.map('slots').set({ service_id: id, slot }, { backend_id: backend.id });
    }
    datapath
      .map('frontends')
      .set(
        { addr: parse(address), port, proto, scope: 0 },
        { service_id: id, count: backends.length, affinity_timeout: 0, flags: 0 },
      );
  };
  /** Runs a packet and names the reasons that were counted. */
  const send = (program: TcxProgram, packet: Uint8Array) => {
    const before = counters();
    const { verdict, packet: out } = datapath.testRun(program, { packet, ifindex: DEVICE });
    const reasons = [...counters()]
      .filter(([reason, n]) => n > (before.get(reason) ?? 0))
      .map(([reason]) => reason);
    return { verdict, out, reasons };
  };
  const counters = (): Map<string, number> => {
    const map = datapath.map<number, { readonly packets: bigint }>('metrics');
    return new Map(
      [...datapath.reasons].map(([number, name]) => [
        name,
        [0, 1, 2, 3].reduce(
          (sum, direction) =>
            sum + map.getPerCpu(number * 4 + direction).reduce((n, each) => n + Number(each.packets), 0),
          0,
        ),
      ]),
    );
  };
  const ports = (from: string, to: string, fromPort = 40_000, toPort = 80): Ports => ({
    from,
    to,
    fromPort,
    toPort,
  });

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
    endpoint(NEIGHBOUR, DEVICE, 0);
    send('from_pod', tcp({ ...ports(NEIGHBOUR, POD, 80, 40_001), flags: TCP_FLAG.syn | TCP_FLAG.ack }));
    assert.equal(rows().length, 1);
    assert.ok(rows()[0]!.flags & 8, 'replied');
    assert.ok(rows()[0]!.expires > first + 1000, 'lives as long as an established connection');
    send('from_pod', tcp({ ...ports(POD, NEIGHBOUR, 40_001), flags: TCP_FLAG.rst }));
    assert.ok(rows()[0]!.expires < first + 10, 'and not after a reset');
    endpoint(NEIGHBOUR, DEVICE + 1000, 0);
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
      ipcache(`${REMOTE}/32`, 65792, '0.0.0.0');
      datapath
        .map('ipcache')
        .set(
          { prefixlen: 160, cluster_id: 0, addr: parse(REMOTE) },
          { identity: 65792, tunnel: new Uint8Array(16), encrypt_key: 0, flags: 0 },
        );
      const back = read(
        send(
          'from_netdev',
          make({
            ...ports(REMOTE, POD, backendPort, 40_002),
            ...(make === tcp ? { flags: TCP_FLAG.syn | TCP_FLAG.ack } : {}),
          }),
        ).out,
      );
      ipcache(`${REMOTE}/32`, 65792, '192.168.77.2');
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

  describe('masquerade', () => {
    it('TCP, UDP and echo leave under the node’s address and come back to the pod', () => {
      for (const [there, answer] of [
        [
          tcp(ports(POD, WORLD, 40_010, 443)),
          (port: number) => tcp({ ...ports(WORLD, NODE, 443, port), flags: TCP_FLAG.syn | TCP_FLAG.ack }),
        ],
        [udp(ports(POD, WORLD, 40_010, 53)), (port: number) => udp(ports(WORLD, NODE, 53, port))],
      ] as const) {
        const out = read(send('to_netdev', there).out);
        assert.deepEqual([out.from, out.to, out.sound], [NODE, WORLD, true]);
        assert.ok(out.fromPort >= 61_000 && out.fromPort <= 61_003);
        const back = read(send('from_netdev', answer(out.fromPort)).out);
        assert.deepEqual([back.from, back.to, back.toPort, back.sound], [WORLD, POD, 40_010, true]);
      }
      const echo = read(send('to_netdev', icmp(POD, WORLD, 8, 0, [0x12, 0x34, 0, 1])).out);
      assert.deepEqual([echo.from, echo.sound], [NODE, true]);
      const id = [...echo.payload.subarray(4, 6)];
      const back = read(send('from_netdev', icmp(WORLD, NODE, 0, 0, [...id, 0, 1])).out);
      assert.deepEqual([back.to, [...back.payload.subarray(4, 6)], back.sound], [POD, [0x12, 0x34], true]);
    });

    it('an ICMP error finds the pod, with what the pod sent in its quote', () => {
      const out = read(send('to_netdev', udp(ports(POD, WORLD, 40_011, 53))).out);
      const quote = ipv4({
        from: NODE,
        to: WORLD,
        protocol: PROTO.udp,
        payload: udpDatagram(ports(NODE, WORLD, out.fromPort, 53)).slice(0, 8),
      });
      const router = '203.0.113.9';
      const { verdict, out: delivered } = send(
        'from_netdev',
        icmp(router, NODE, 3, 4, [0, 0, 5, 0x14, ...quote]),
      );
      assert.equal(verdict, TC_ACT.REDIRECT);
      const seen = read(delivered);
      assert.deepEqual([seen.from, seen.to, seen.sound], [router, POD, true]);
      const quoted = readIpv4(seen.payload.subarray(8), true);
      assert.deepEqual(
        [quoted.from, quoted.to, quoted.fromPort, quoted.toPort, quoted.sound],
        [POD, WORLD, 40_011, 53, true],
      );
    });

    it('a flow keeps its port; when all are taken the packet is dropped and counted', () => {
      const port = (fromPort: number): number =>
        read(send('to_netdev', udp(ports(POD, WORLD, fromPort, 53))).out).fromPort;
      const given = [1, 2, 3, 4].map(each => port(each));
      assert.deepEqual([...given].sort(), [61_000, 61_001, 61_002, 61_003]);
      assert.deepEqual(
        [1, 2, 3, 4].map(each => port(each)),
        given,
      );
      assert.deepEqual(send('to_netdev', udp(ports(POD, WORLD, 5, 53))).reasons, ['DROP_NO_NAT_PORT']);
      assert.equal(
        send('to_netdev', udp(ports(POD, WORLD, 5, 54))).verdict,
        TC_ACT.OK,
        'another destination has its own',
      );
    });

    it('a closed connection gives its port back', () => {
      type Row = { expires: number; flags: number };
      const nat = datapath.map<unknown, Row>('nat');
      const out = read(send('to_netdev', tcp(ports(POD, WORLD, 40_012, 443))).out);
      send(
        'from_netdev',
        tcp({ ...ports(WORLD, NODE, 443, out.fromPort), flags: TCP_FLAG.fin | TCP_FLAG.ack }),
      );
      assert.ok(
        [...nat.entries()].every(([, row]) => !(row.flags & 16)),
        'half closed is open',
      );
      send('to_netdev', tcp({ ...ports(POD, WORLD, 40_012, 443), flags: TCP_FLAG.fin | TCP_FLAG.ack }));
      const rows = [...nat.entries()].map(([, row]) => row);
      assert.equal(rows.length, 2);
      assert.ok(
        rows.every(row => row.flags & 16),
        JSON.stringify(rows.map(row => row.flags)),
      );
      send('to_netdev', tcp(ports(POD, WORLD, 40_012, 443)));
      assert.ok(
        [...nat.entries()].every(([, row]) => !(row.flags & 16)),
        'and opens again on the same ports',
      );
    });

    it('replies of a pod to one who came to its own address keep it', () => {
      send('from_netdev', tcp(ports(WORLD, POD, 50_000, 80)));
      const reply = read(
        send('to_netdev', tcp({ ...ports(POD, WORLD, 80, 50_000), flags: TCP_FLAG.syn | TCP_FLAG.ack })).out,
      );
      assert.deepEqual([reply.from, reply.fromPort], [POD, 80]);
    });

    it('what has no ports can not be told apart and is dropped', () => {
      const gre = ethernet(
        0x0800,
        ipv4({ from: POD, to: WORLD, protocol: 47, payload: new Array<number>(24).fill(0) }),
      );
      assert.deepEqual(send('to_netdev', gre).reasons, ['DROP_NAT_UNSUPPORTED_L4']);
    });
  });

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

  it('a pod’s address from the uplink outside a tunnel is a lie', () => {
    assert.deepEqual(send('from_netdev', tcp(ports(REMOTE, POD))).reasons, [
      'DROP_POD_SOURCE_OUTSIDE_TUNNEL',
    ]);
  });

  it('without a tunnel key nothing comes out of the tunnel', () => {
    assert.deepEqual(send('from_overlay', tcp(ports(REMOTE, POD))).reasons, ['DROP_NO_TUNNEL_KEY']);
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
