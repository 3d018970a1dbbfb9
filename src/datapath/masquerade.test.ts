import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { parse } from './address.ts';
import { monotonicSeconds } from './expiry.ts';
import type { Datapath } from './object.ts';
import {
  frame,
  icmp,
  icmpTypes,
  ip,
  PROTO,
  read,
  readIp,
  TCP_FLAG,
  tcp,
  udp,
  udpDatagram,
} from './packet.fixture.ts';
import { createPrograms, FAMILIES, type Programs, ports } from './programs.fixture.ts';
import { TC_ACT } from './test-run.ts';

for (const [name, { NODE, POD, ROUTER, WORLD }] of FAMILIES)
  describe(`masquerade of ${name}, packet by packet`, () => {
    let programs: Programs;
    let datapath: Datapath;
    let send: Programs['send'];
    const types = icmpTypes(POD);
    before(async () => {
      programs = await createPrograms();
      ({ datapath, send } = programs);
    });
    after(() => programs?.[Symbol.dispose]());
    beforeEach(() => programs.forget());

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
      const echo = read(send('to_netdev', icmp(POD, WORLD, types.echo, 0, [0x12, 0x34, 0, 1])).out);
      assert.deepEqual([echo.from, echo.sound], [NODE, true]);
      const id = [...echo.payload.subarray(4, 6)];
      const back = read(send('from_netdev', icmp(WORLD, NODE, types.echoReply, 0, [...id, 0, 1])).out);
      assert.deepEqual([back.to, [...back.payload.subarray(4, 6)], back.sound], [POD, [0x12, 0x34], true]);
    });

    it('another uplink is left under an address of its own, and what comes back to that finds the pod', () => {
      const [second, loopback] = [name === 'IPv4' ? '192.0.2.77' : '2001:db8:77::1', 1];
      const key = { ifindex: loopback, family: name === 'IPv4' ? 2 : 10 };
      const own = { cluster_id: 0, pad: 0, addr: parse(second) };
      const none = new Uint8Array(6);
      const host = { ifindex: 0, identity: 1, endpoint_id: 0, policy_set: 0, mac: none, host_mac: none };
      datapath.map('masquerade_addresses').set(key, { addr: parse(second) });
      datapath.map('endpoints').set(own, { ...host, flags: 1 });
      try {
        const out = read(send('to_netdev', udp(ports(POD, WORLD, 40_013, 53))).out);
        assert.deepEqual([out.from, out.to, out.sound], [second, WORLD, true]);
        const back = read(send('from_netdev', udp(ports(WORLD, second, 53, out.fromPort))).out);
        assert.deepEqual([back.from, back.to, back.toPort, back.sound], [WORLD, POD, 40_013, true]);
      } finally {
        datapath.map('masquerade_addresses').delete(key);
        datapath.map('endpoints').delete(own);
      }
    });

    it('an ICMP error finds the pod, with what the pod sent in its quote', () => {
      const out = read(send('to_netdev', udp(ports(POD, WORLD, 40_011, 53))).out);
      const quote = ip(NODE, WORLD, PROTO.udp, udpDatagram(ports(NODE, WORLD, out.fromPort, 53)).slice(0, 8));
      const { verdict, out: delivered } = send(
        'from_netdev',
        icmp(ROUTER, NODE, types.tooBig, name === 'IPv4' ? 4 : 0, [0, 0, 5, 0x14, ...quote]),
      );
      assert.equal(verdict, TC_ACT.REDIRECT);
      const seen = read(delivered);
      assert.deepEqual([seen.from, seen.to, seen.sound], [ROUTER, POD, true]);
      const quoted = readIp(seen.payload.subarray(8), true);
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

    it('an ended connection gives its port to another where none is free, and begins again on a port of its own', () => {
      const fromOf = (fromPort: number, flags: number): number =>
        read(send('to_netdev', tcp({ ...ports(POD, WORLD, fromPort, 443), flags })).out).fromPort;
      const syn = (fromPort: number): number => fromOf(fromPort, TCP_FLAG.syn);
      const back = (port: number): number =>
        read(send('from_netdev', tcp({ ...ports(WORLD, NODE, 443, port), flags: TCP_FLAG.ack })).out).toPort;
      const given = [1, 2, 3, 4].map(syn);
      assert.deepEqual(send('to_netdev', tcp(ports(POD, WORLD, 5, 443))).reasons, ['DROP_NO_NAT_PORT']);
      fromOf(3, TCP_FLAG.rst);
      assert.equal(syn(5), given[2], 'the port of the one that ended');
      assert.equal(back(given[2]!), 5);
      fromOf(1, TCP_FLAG.rst);
      assert.equal(syn(3), given[0], 'the old connection’s ports again: not the other’s way');
      assert.equal(back(given[0]!), 3);
      assert.equal(back(given[2]!), 5, 'which goes on');
      assert.deepEqual(send('to_netdev', tcp(ports(POD, WORLD, 6, 443))).reasons, ['DROP_NO_NAT_PORT']);
    });

    it('who is never answered does not keep a port for longer than it asks; a connection keeps it while idle', () => {
      type Row = { expires: number };
      const nat = datapath.map<unknown, Row>('nat');
      const soon = monotonicSeconds() + 120;
      const living = (): boolean[] => [...nat.entries()].map(([, row]) => row.expires > soon);
      const out = read(send('to_netdev', tcp(ports(POD, WORLD, 40_014, 443))).out);
      send('to_netdev', tcp(ports(POD, WORLD, 40_014, 443)));
      assert.deepEqual(living(), [false, false]);
      send(
        'from_netdev',
        tcp({ ...ports(WORLD, NODE, 443, out.fromPort), flags: TCP_FLAG.syn | TCP_FLAG.ack }),
      );
      assert.deepEqual(living(), [false, false]);
      send('to_netdev', tcp({ ...ports(POD, WORLD, 40_014, 443), flags: TCP_FLAG.ack }));
      assert.deepEqual(living(), [true, true]);
      send('to_netdev', tcp(ports(POD, WORLD, 40_014, 443)));
      assert.deepEqual(living(), [true, true], 'a stranger’s SYN shortens nothing');
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
      const gre = frame(ip(POD, WORLD, 47, new Array<number>(24).fill(0)));
      assert.deepEqual(send('to_netdev', gre).reasons, ['DROP_NAT_UNSUPPORTED_L4']);
    });
  });
