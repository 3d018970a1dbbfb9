/** Direct server return, packet by packet, at the node that chooses a backend and at the one that has it. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { parse } from './address.ts';
import { CONFIG_FLAG } from './object.ts';
import {
  EXTENSION,
  extension,
  fragmentHeader,
  frame,
  icmp,
  icmpTypes,
  ip,
  ipv4,
  PROTO,
  read,
  readIp,
  TCP_FLAG,
  tcp,
  udp,
  udpDatagram,
} from './packet.fixture.ts';
import { createPrograms, FAMILIES, type Programs, ports, REMOTE_NODE } from './programs.fixture.ts';
import { TC_ACT } from './test-run.ts';
import {
  counted,
  createTestbed,
  ip as ipCommands,
  planOf,
  ready,
  setNode,
  setService,
  wire,
} from './testbed.fixture.ts';

const NODE = { local: 1, own: 2, direct: 4 } as const;
const FRONTEND = { nodePort: 2, external: 4, local: 8, sourceRanges: 32, dsr: 128, deny: 256 } as const;
const NAT_DSR = 32;
const NODEPORT = 30_080;
const LB_PORT = 80;

/** The option's bytes, as Cilium writes them. */
const option = (address: string, port: number): number[] => {
  const addr = [...parse(address)];
  return address.includes(':')
    ? [0x1b, 20, ...addr, port >> 8, port & 0xff, 0, 0]
    : [0x9a, 8, port & 0xff, port >> 8, ...addr.slice(12).reverse()];
};

/** What a frame says behind its base header: the bytes of an option, or none. */
function optionOf(packet: Uint8Array): number[] {
  const at = 14;
  if (packet[at]! >> 4 === 4) return [...packet.subarray(at + 20, at + (packet[at]! & 0xf) * 4)];
  return packet[at + 6] === EXTENSION.destination
    ? [...packet.subarray(at + 42, at + 40 + 8 + packet[at + 41]! * 8)]
    : [];
}

/** A frame with these bytes as its option; `padding` before them is of what is skipped. */
function withOption(plain: Uint8Array, bytes: readonly number[]): Uint8Array {
  const packet = [...plain.subarray(14)];
  if (packet[0]! >> 4 === 6) {
    const { from, to } = readIp(Uint8Array.from(packet));
    const header = [packet[6]!, (bytes.length + 2) / 8 - 1, ...bytes];
    return frame(ip(from, to, EXTENSION.destination, [...header, ...packet.slice(40)]));
  }
  const { from, to } = readIp(Uint8Array.from(packet));
  const out = ipv4({ from, to, protocol: packet[9]!, payload: [...bytes, ...packet.slice(20)] });
  out[0] = 0x45 + bytes.length / 4;
  out.splice(10, 2, 0, 0);
  const header = out.slice(0, 20 + bytes.length);
  let sum = 0;
  for (let at = 0; at < header.length; at += 2) sum += (header[at]! << 8) | header[at + 1]!;
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  out.splice(10, 2, (~sum >> 8) & 0xff, ~sum & 0xff);
  return frame(out);
}

for (const [name, own] of FAMILIES)
  describe(`direct server return over ${name}`, () => {
    const { WORLD, POD, NEIGHBOUR, REMOTE, ROUTER } = own;
    const LB = name === 'IPv4' ? '203.0.113.80' : '2001:db8:80::1';
    const ANY = name === 'IPv4' ? '0.0.0.0' : '::';
    const NODE_B = name === 'IPv4' ? REMOTE_NODE : 'fd00:77::2';
    const types = icmpTypes(WORLD);
    /** The node the client asks, and the node of the backend. */
    let a: Programs;
    let b: Programs;
    let port = 20_000;

    const node = (on: Programs, address: string, flags: number, cluster = 1): void =>
      on.datapath.map('nodes').set({ addr: parse(address) }, { cluster_id: cluster, flags });
    const services = (on: Programs, flags: number): void => {
      for (const proto of [PROTO.tcp, PROTO.udp]) {
        const backends = [{ id: 500 + proto, address: REMOTE, port: 8080 }];
        on.service(600 + proto, ANY, NODEPORT, proto, backends, { flags: FRONTEND.nodePort | flags });
        on.service(620 + proto, LB, LB_PORT, proto, backends, { flags: FRONTEND.external | flags });
      }
    };
    const rows = (on: Programs) => [
      ...on.datapath.map<object, { flags: number; expires: number }>('nat').entries(),
    ];

    before(async () => {
      a = await createPrograms({ flags: CONFIG_FLAG.direct });
      b = await createPrograms({
        flags: CONFIG_FLAG.direct,
        node_ip: parse(REMOTE_NODE),
        node_ip6: parse('fd00:77::2'),
      });
      for (const on of [a, b]) {
        node(on, own.NODE, NODE.own | (on === a ? NODE.local : NODE.direct));
        services(on, FRONTEND.dsr);
      }
      b.endpoint(REMOTE, 1, 0);
      b.endpoint(NODE_B, 0, 1);
      for (const address of [own.NODE, own.INTERNAL])
        b.datapath.map('endpoints').delete({ cluster_id: 0, addr: parse(address) });
    });
    after(() => {
      a?.[Symbol.dispose]();
      b?.[Symbol.dispose]();
    });
    beforeEach(() => {
      a.forget();
      b.forget();
      // A pod of either family is behind the node's IPv4 address in the fixture's rows.
      node(a, REMOTE_NODE, NODE.own | NODE.direct);
      node(a, NODE_B, NODE.own | NODE.direct);
      node(b, NODE_B, NODE.own | NODE.local);
      port++;
    });

    for (const [kind, address, asked] of [
      ['NodePort', own.NODE, NODEPORT],
      ['LoadBalancer', LB, LB_PORT],
    ] as const)
      it(`TCP to a ${kind}: the first packet tells, the answer has the service’s address`, () => {
        const flow = ports(WORLD, address, port, asked);
        for (const times of [1, 2]) {
          const there = a.send('from_netdev', tcp(flow)).out;
          const seen = read(there);
          assert.deepEqual([seen.from, seen.to, seen.fromPort, seen.sound], [WORLD, REMOTE, port, true]);
          assert.deepEqual(optionOf(there), option(address, asked), `time ${times}`);

          const { verdict, out, reasons } = b.send('from_netdev', there);
          assert.deepEqual([verdict, reasons], [TC_ACT.REDIRECT, ['REASON_FORWARDED']]);
          const delivered = read(out);
          assert.deepEqual(
            [delivered.from, delivered.fromPort, delivered.to, delivered.toPort, delivered.sound],
            [WORLD, port, REMOTE, 8080, true],
          );
          assert.deepEqual([optionOf(out), out.length], [[], tcp(flow).length]);
        }
        const back = { ...ports(REMOTE, WORLD, 8080, port), flags: TCP_FLAG.syn | TCP_FLAG.ack };
        const answer = read(b.send('from_pod', tcp(back)).out);
        assert.deepEqual(
          [answer.from, answer.fromPort, answer.to, answer.toPort, answer.sound],
          [address, asked, WORLD, port, true],
        );

        const later = a.send('from_netdev', tcp({ ...flow, flags: TCP_FLAG.ack })).out;
        assert.deepEqual([read(later).to, optionOf(later)], [REMOTE, []]);
        assert.equal(b.send('from_netdev', later).verdict, TC_ACT.REDIRECT);
        assert.equal(
          read(b.send('from_pod', tcp({ ...back, flags: TCP_FLAG.ack })).out).from,
          address,
          'later answers, too',
        );
      });

    it('UDP: each datagram tells', () => {
      const flow = ports(WORLD, own.NODE, port, NODEPORT);
      for (let time = 0; time < 3; time++) {
        const there = a.send('from_netdev', udp(flow)).out;
        assert.deepEqual(optionOf(there), option(own.NODE, NODEPORT));
        assert.ok(read(there).sound);
        const { out } = b.send('from_netdev', there);
        assert.deepEqual([read(out).to, read(out).sound, optionOf(out)], [REMOTE, true, []]);
        const answer = read(b.send('from_pod', udp(ports(REMOTE, WORLD, 8080, port))).out);
        assert.deepEqual([answer.from, answer.fromPort, answer.sound], [own.NODE, NODEPORT, true]);
      }
      assert.equal(rows(b).length, 1);
    });

    it('a backend in its node’s own network answers in the service’s name', () => {
      const backends = [{ id: 540, address: NODE_B, port: 9090 }];
      for (const on of [a, b])
        on.service(640, LB, 90, PROTO.tcp, backends, { flags: FRONTEND.external | FRONTEND.dsr });
      const there = a.send('from_netdev', tcp(ports(WORLD, LB, port, 90))).out;
      assert.deepEqual([read(there).to, optionOf(there)], [NODE_B, option(LB, 90)]);
      const arrived = b.send('from_netdev', there);
      assert.deepEqual([arrived.verdict, arrived.reasons], [TC_ACT.OK, ['REASON_TO_STACK']]);
      assert.deepEqual(optionOf(arrived.out), []);
      const back = tcp({ ...ports(NODE_B, WORLD, 9090, port), flags: TCP_FLAG.syn | TCP_FLAG.ack });
      const answer = read(b.send('to_netdev', back).out);
      assert.deepEqual([answer.from, answer.fromPort, answer.sound], [LB, 90, true]);
    });

    it('fragments: each loses the option, the first has the ports', () => {
      const datagram = udpDatagram({
        ...ports(WORLD, own.NODE, port, NODEPORT),
        data: new Array<number>(72).fill(7),
      });
      const part = (from: number, to: number, more: boolean): Uint8Array => {
        const payload = datagram.slice(from, to);
        const fragment = name === 'IPv4' ? (more ? 0x2000 : 0) | (from / 8) : from | (more ? 1 : 0);
        return frame(
          name === 'IPv4'
            ? ipv4({ from: WORLD, to: own.NODE, protocol: PROTO.udp, payload, id: 77, fragment })
            : ip(WORLD, own.NODE, EXTENSION.fragment, [
                ...fragmentHeader(PROTO.udp, fragment, 77),
                ...payload,
              ]),
        );
      };
      for (const packet of [part(0, 40, true), part(40, 80, false)]) {
        const there = a.send('from_netdev', packet).out;
        assert.deepEqual(optionOf(there), option(own.NODE, NODEPORT));
        const { verdict, out } = b.send('from_netdev', there);
        assert.equal(verdict, TC_ACT.REDIRECT);
        assert.deepEqual([read(out).to, optionOf(out), out.length], [REMOTE, [], packet.length]);
      }
    });

    it('an error about what the backend got or sent speaks of the service', () => {
      const flow = ports(WORLD, own.NODE, port, NODEPORT);
      b.send('from_netdev', a.send('from_netdev', udp(flow)).out);
      // Nobody listens in the pod.
      const got = udpDatagram(ports(WORLD, REMOTE, port, 8080)).slice(0, 8);
      const refused = read(
        b.send(
          'from_pod',
          icmp(REMOTE, WORLD, types.unreachable, types.portUnreachable, [
            ...[0, 0, 0, 0],
            ...ip(WORLD, REMOTE, PROTO.udp, got),
          ]),
        ).out,
      );
      assert.deepEqual([refused.from, refused.to, refused.sound], [own.NODE, WORLD, true]);
      const quoted = readIp(refused.payload.subarray(8), true);
      assert.deepEqual([quoted.to, quoted.toPort, quoted.sound], [own.NODE, NODEPORT, true]);

      // A router on the way of the answer finds it too big, and tells the sender it knows: the service's node.
      const sent = udpDatagram(ports(own.NODE, WORLD, NODEPORT, port)).slice(0, 8);
      const tooBig = icmp(ROUTER, own.NODE, types.tooBig, name === 'IPv4' ? 4 : 0, [
        ...[0, 0, 5, 0x14],
        ...ip(own.NODE, WORLD, PROTO.udp, sent),
      ]);
      const passed = a.send('from_netdev', tooBig).out;
      assert.deepEqual([read(passed).from, read(passed).to, optionOf(passed)], [ROUTER, REMOTE, []]);
      const told = b.send('from_netdev', passed);
      assert.equal(told.verdict, TC_ACT.REDIRECT);
      const inner = readIp(read(told.out).payload.subarray(8), true);
      assert.deepEqual([inner.from, inner.fromPort, inner.to], [REMOTE, 8080, WORLD]);
    });

    it('where the answer could not leave there, or the frontend is not to be served so, it comes back here', () => {
      const masked = (from = WORLD): boolean => {
        const { out } = a.send('from_netdev', tcp(ports(from, own.NODE, port++, NODEPORT)));
        assert.deepEqual(optionOf(out), []);
        return read(out).from === own.NODE || read(out).from === own.INTERNAL;
      };
      node(a, REMOTE_NODE, NODE.direct, 2);
      assert.ok(masked(), 'the backend is another cluster’s');
      node(a, REMOTE_NODE, NODE.own);
      assert.ok(masked(), 'the backend is behind a tunnel');
      node(a, REMOTE_NODE, NODE.own | NODE.direct);
      assert.ok(masked(NODE_B), 'the client is a node');
      a.ipcache(name === 'IPv4' ? '10.2.0.9/32' : 'fd00:2::9/128', 131_072 + 300, REMOTE_NODE);
      assert.ok(masked(name === 'IPv4' ? '10.2.0.9' : 'fd00:2::9'), 'the client is a pod');
      const backends = [{ id: 560, address: NODE_B, port: 80 }];
      a.service(660, NODE_B, 80, PROTO.tcp, backends, { flags: FRONTEND.external | FRONTEND.dsr });
      a.service(661, LB, 94, PROTO.tcp, backends, { flags: FRONTEND.external | FRONTEND.dsr });
      const { out: twice } = a.send('from_netdev', tcp(ports(WORLD, LB, port++, 94)));
      assert.deepEqual(
        [read(twice).from, optionOf(twice)],
        [own.NODE, []],
        'the backend is a service itself',
      );
      services(a, 0);
      assert.ok(masked(), 'the frontend has no such flag');
      services(a, FRONTEND.dsr);
      const { out } = a.send('from_netdev', tcp(ports(WORLD, own.NODE, port, NODEPORT)));
      assert.deepEqual(optionOf(out), option(own.NODE, NODEPORT));
    });

    it('a client’s port that the backend talks with already, by another service, is replaced', () => {
      const first = a.send('from_netdev', tcp(ports(WORLD, own.NODE, port, NODEPORT))).out;
      assert.equal(optionOf(first).length > 0, true);
      const second = a.send('from_netdev', tcp(ports(WORLD, LB, port, LB_PORT))).out;
      assert.deepEqual([read(second).from, optionOf(second), read(second).sound], [own.NODE, [], true]);
    });

    it('a backend of this node needs no option', () => {
      a.service(650, LB, 91, PROTO.tcp, [{ id: 550, address: POD, port: 8080 }], {
        flags: FRONTEND.external | FRONTEND.dsr,
      });
      const { out } = a.send('from_netdev', tcp(ports(WORLD, LB, port, 91)));
      assert.deepEqual([read(out).from, read(out).to, optionOf(out)], [WORLD, POD, []]);
    });

    it('an option that no node would have written is dropped', () => {
      const forged = (
        packet: Uint8Array,
        bytes: readonly number[],
      ): readonly [number, readonly string[], number] => {
        const { verdict, reasons } = b.send('from_netdev', withOption(packet, bytes));
        return [verdict, reasons, rows(b).length];
      };
      const dropped = [TC_ACT.SHOT, ['DROP_DSR_FORGED'], 0] as const;
      const to = ports(WORLD, REMOTE, port, 8080);
      const asked = option(own.NODE, NODEPORT);
      assert.deepEqual(forged(tcp(to), option(own.NODE, 30_999)), dropped, 'no such service');
      assert.deepEqual(forged(tcp(to), option(ROUTER, NODEPORT)), dropped, 'no node');
      assert.deepEqual(forged(tcp(to), option(own.VIP, 80)), dropped, 'for clients inside');
      assert.deepEqual(forged(tcp({ ...to, flags: TCP_FLAG.ack }), asked), dropped, 'no first packet');
      assert.deepEqual(forged(tcp({ ...to, from: own.NODE }), asked), dropped, 'a node as client');
      const toService = tcp(ports(WORLD, NODE_B, port, NODEPORT));
      assert.deepEqual(forged(toService, option(LB, LB_PORT)), dropped, 'to a service');
      assert.deepEqual(forged(tcp({ ...to, from: NEIGHBOUR }), asked), dropped, 'a pod as client');
      assert.deepEqual(forged(icmp(WORLD, REMOTE, types.echo, 0, [0, 1, 0, 1]), asked), dropped, 'echo');
      b.service(651, LB, 92, PROTO.tcp, [{ id: 551, address: REMOTE, port: 8080 }], {
        flags: FRONTEND.external | FRONTEND.local,
      });
      assert.deepEqual(forged(tcp(to), option(LB, 92)), dropped, 'served by each node for itself');
      b.service(652, LB, 93, PROTO.tcp, [{ id: 551, address: REMOTE, port: 8080 }], {
        flags: FRONTEND.external | FRONTEND.sourceRanges,
      });
      assert.deepEqual(
        forged(tcp(to), option(LB, 93)),
        [TC_ACT.SHOT, ['DROP_SOURCE_NOT_IN_RANGES'], 0],
        'a client that may not',
      );
      assert.equal(forged(tcp(to), asked)[0], TC_ACT.REDIRECT, 'and this is right');
    });

    it('a malformed option is dropped', () => {
      const right = option(own.NODE, NODEPORT);
      const packet = tcp(ports(WORLD, REMOTE, port, 8080));
      for (const length of [0, 7, 21, 255]) {
        const { verdict, reasons } = b.send('from_netdev', withOption(packet, right.with(1, length)));
        assert.deepEqual([verdict, reasons], [TC_ACT.SHOT, ['DROP_MALFORMED_PACKET']], `length ${length}`);
      }
      const cut = withOption(packet, name === 'IPv4' ? right.slice(0, 4) : right.slice(0, 6));
      assert.deepEqual(b.send('from_netdev', cut).reasons, ['DROP_MALFORMED_PACKET'], 'cut off');
      const long = withOption(packet, [
        ...right,
        ...(name === 'IPv4' ? [1, 1, 1, 1] : [1, 6, 0, 0, 0, 0, 0, 0]),
      ]);
      const more = b.send('from_netdev', long);
      if (name === 'IPv4')
        assert.deepEqual([more.verdict, optionOf(more.out)], [TC_ACT.REDIRECT, [1, 1, 1, 1]], 'others stay');
      else assert.deepEqual(more.reasons, ['DROP_MALFORMED_PACKET'], 'nodes write nothing else there');
    });

    it('a pod can not send the option', () => {
      const packet = withOption(udp(ports(POD, REMOTE, port, 8080)), option(own.NODE, NODEPORT));
      const { verdict, reasons } = a.send('from_pod', packet);
      assert.deepEqual([verdict, reasons], [TC_ACT.SHOT, ['DROP_DSR_FROM_POD']]);
      const other =
        name === 'IPv4'
          ? withOption(udp(ports(POD, NEIGHBOUR, port, 8080)), [1, 1, 1, 0])
          : frame(
              ip(POD, NEIGHBOUR, EXTENSION.destination, [
                ...extension(PROTO.udp),
                ...udpDatagram(ports(POD, NEIGHBOUR, port, 8080)),
              ]),
            );
      assert.equal(a.send('from_pod', other).verdict, TC_ACT.REDIRECT, 'other options pass');
    });

    it('what is on its way to others keeps its option', () => {
      const packet = withOption(tcp(ports(WORLD, ROUTER, port, 80)), option(own.NODE, NODEPORT));
      const { verdict, out } = b.send('from_netdev', packet);
      assert.deepEqual([verdict, [...out]], [TC_ACT.OK, [...packet]]);
    });

    it('each node forgets a connection whose end it has seen, and begins a new one on its ports', () => {
      const now = Math.floor(Number(process.hrtime.bigint() / 1_000_000_000n));
      const lifetimes = (on: Programs) =>
        rows(on)
          .filter(([, row]) => row.flags & NAT_DSR)
          .map(([, row]) => Math.round((row.expires - now) / 10) * 10);
      const flow = ports(WORLD, own.NODE, port, NODEPORT);
      const back = ports(REMOTE, WORLD, 8080, port);
      b.send('from_netdev', a.send('from_netdev', tcp(flow)).out);
      b.send('from_pod', tcp({ ...back, flags: TCP_FLAG.syn | TCP_FLAG.ack }));
      b.send('from_netdev', a.send('from_netdev', tcp({ ...flow, flags: TCP_FLAG.ack })).out);
      assert.deepEqual([lifetimes(a), lifetimes(b)], [[8000, 8000], [8000]]);
      a.send('from_netdev', tcp({ ...flow, flags: TCP_FLAG.ack | TCP_FLAG.fin }));
      a.send('from_netdev', tcp({ ...flow, flags: TCP_FLAG.ack }));
      b.send('from_pod', tcp({ ...back, flags: TCP_FLAG.ack | TCP_FLAG.fin }));
      b.send('from_pod', tcp({ ...back, flags: TCP_FLAG.ack }));
      assert.deepEqual([lifetimes(a), lifetimes(b)], [[60, 60], [60]]);
      const again = a.send('from_netdev', tcp(flow)).out;
      assert.deepEqual(optionOf(again), option(own.NODE, NODEPORT));
      b.send('from_netdev', again);
      a.send('from_netdev', tcp({ ...flow, flags: TCP_FLAG.ack }));
      b.send('from_pod', tcp({ ...back, flags: TCP_FLAG.ack }));
      assert.deepEqual([lifetimes(a), lifetimes(b)], [[8000, 8000], [8000]]);
      a.send('from_netdev', tcp({ ...flow, flags: TCP_FLAG.rst }));
      b.send('from_pod', tcp({ ...back, flags: TCP_FLAG.rst }));
      assert.deepEqual([lifetimes(a), lifetimes(b)], [[10, 10], [10]]);
    });
  });

for (const family of ['IPv4', 'IPv6'] as const)
  describe(`direct server return over ${family} with real sockets`, () => {
    const plan = planOf(family);
    const LB = plan.service(80);
    const option = family === 'IPv4' ? 8 : 24;

    it('the client hears the service, the backend the client, and the first node nothing of the answer', async () => {
      await using bed = await createTestbed({ family, flags: CONFIG_FLAG.direct });
      const [first, second] = bed.nodes;
      const pod = second.pods[0]!;
      for (const [node, other] of [
        [first, second],
        [second, first],
      ] as const) {
        setNode(node, other.ip, 1, NODE.own | NODE.direct);
        await ipCommands(node.netns, [`route add ${other.pods[0]!.ip} via ${other.ip}`]);
        for (const [id, protocol, target] of [
          [1, 'tcp', 80],
          [2, 'udp', 53],
        ] as const) {
          const backends = [{ id, address: pod.ip, port: target }];
          const flags = FRONTEND.dsr;
          setService(node, { id, address: plan.any, port: NODEPORT, protocol, backends, flags });
          const external = flags | FRONTEND.external;
          setService(node, { id: id + 10, address: LB, port: LB_PORT, protocol, backends, flags: external });
        }
      }
      await ipCommands(bed.world, [`route add ${LB} via ${first.ip}`]);
      await ready(bed.start(pod.netns, wire('serve', 'pod', '80', '53', plan.any), second));
      const ask = async (...command: string[]): Promise<string> =>
        (await bed.run(bed.world, wire(...command))).stdout;

      await Promise.all(
        [[first.ip, `${NODEPORT}`] as const, [LB, `${LB_PORT}`] as const].map(async ([address, port]) => {
          assert.equal(await ask('tcp', address, port), `pod ${bed.worldIp} ${address}`);
          assert.equal(await ask('udp', address, port), `pod ${bed.worldIp} ${address}:${port}`);
        }),
      );
      const forwarded = () => bed.nodes.map(node => counted(node, 'REASON_FORWARDED'));
      const before = forwarded();
      await ask('udp', LB, `${LB_PORT}`);
      assert.deepEqual(
        forwarded().map((now, at) => now - before[at]!),
        [1, 2],
        'the question by both nodes, the answer by the second alone',
      );

      // As large as the wire, and the option on top: the client is told what fits, and sends that.
      const size = 1500 - (family === 'IPv4' ? 28 : 48);
      assert.equal(await ask('udp', LB, `${LB_PORT}`, 'connected', `${size}`), 'EMSGSIZE');
      assert.equal(counted(first, 'REASON_DSR_TOO_BIG'), 1);
      const { stdout } = await bed.run(bed.world, ['ip', 'route', 'get', LB]);
      assert.match(stdout, new RegExp(`mtu ${1500 - option}\\b`));
      assert.equal(
        await ask('udp', LB, `${LB_PORT}`, 'connected', `${size}`),
        `pod ${bed.worldIp} ${LB}:${LB_PORT}`,
      );
    });
  });
