/** Packets that no sound sender makes, at every program that reads packets: dropped and counted, or left alone. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import type { DeviceProgram } from './object.ts';
import { icmp, icmpTypes, tcp, udp } from './packet.fixture.ts';
import { createPrograms, FAMILIES, type Programs, ports } from './programs.fixture.ts';
import { TC_ACT } from './test-run.ts';

const ETHERNET = 14;

/** What of a frame's IP packet its lengths promise; undefined where the IP header itself is none. */
function lengthsOf(bytes: Uint8Array): { header: number; total: number } | undefined {
  const packet = bytes.subarray(ETHERNET);
  if (packet.length < 20) return undefined;
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
  const v6 = packet[0]! >> 4 === 6;
  if (v6 && packet.length < 40) return undefined;
  return v6
    ? { header: 40, total: 40 + view.getUint16(4) }
    : { header: (packet[0]! & 15) * 4, total: view.getUint16(2) };
}

/** Says that the packet ends after so many bytes, and pads the frame as Ethernet does. */
function endingAt(bytes: Uint8Array, total: number): Uint8Array {
  const out = new Uint8Array(Math.max(60, ETHERNET + total));
  out.set(bytes.subarray(0, ETHERNET + total));
  const v6 = out[ETHERNET]! >> 4 === 6;
  new DataView(out.buffer).setUint16(ETHERNET + (v6 ? 4 : 2), v6 ? total - 40 : total);
  return out;
}

const changed = (bytes: Uint8Array, at: number, ...values: readonly number[]): Uint8Array => {
  const out = bytes.slice();
  out.set(values, at);
  return out;
};

for (const [family, { NODE, POD, REMOTE, VIP, WORLD }] of FAMILIES)
  describe(`malformed packets of ${family}`, () => {
    let programs: Programs;
    before(async () => {
      programs = await createPrograms();
    });
    after(() => programs?.[Symbol.dispose]());
    beforeEach(() => programs.forget());
    const headerOf = family === 'IPv4' ? 20 : 40;
    const types = icmpTypes(POD);
    const l4 = ETHERNET + headerOf;

    /** Where a packet of a pod, and one of a client outside, would go if it were sound. */
    const ways: readonly (readonly [DeviceProgram, string, string])[] = [
      ['from_pod', POD, REMOTE],
      ['from_pod', POD, VIP],
      ['from_netdev', WORLD, POD],
    ];
    const makers = {
      TCP: (from: string, to: string) => tcp(ports(from, to, 40_000, 80)),
      UDP: (from: string, to: string) => udp(ports(from, to, 40_000, 53)),
      echo: (from: string, to: string) => icmp(from, to, types.echo, 0, [0, 7, 0, 1, 1, 2, 3, 4]),
    };
    /** Bytes that the header of the protocol has at least. */
    const least = { TCP: 20, UDP: 8, echo: 8 };

    const dropped = (program: DeviceProgram, packet: Uint8Array, what: string): void => {
      const { verdict, reasons } = programs.send(program, packet);
      assert.deepEqual([verdict, reasons], [TC_ACT.SHOT, ['DROP_MALFORMED_PACKET']], `${program}: ${what}`);
    };

    for (const [protocol, make] of Object.entries(makers) as [keyof typeof makers, typeof makers.TCP][]) {
      it(`${protocol} whose frame ends early`, () => {
        for (const [program, from, to] of ways) {
          const good = make(from, to);
          // The kernel runs no test with less than an IP header.
          for (let length = l4; length < good.length; length++)
            dropped(program, good.subarray(0, length), `${length} bytes to ${to}`);
        }
      });

      it(`${protocol} whose header is longer than the packet, in a frame that was padded`, () => {
        for (const [program, from, to] of ways)
          for (let length = 0; length < least[protocol]; length++)
            dropped(program, endingAt(make(from, to), headerOf + length), `${length} bytes to ${to}`);
      });
    }

    it('a TCP header that says it is longer than the packet, or shorter than it can be', () => {
      for (const [program, from, to] of ways)
        for (const offset of [0, 4, 6, 15])
          dropped(program, changed(makers.TCP(from, to), l4 + 12, offset << 4), `data offset ${offset}`);
    });

    it('a UDP datagram that says it is longer than the packet, or shorter than its header', () => {
      for (const [program, from, to] of ways)
        for (const length of [0, 7, 13, 0xffff])
          dropped(
            program,
            changed(makers.UDP(from, to), l4 + 4, length >> 8, length & 0xff),
            `length ${length}`,
          );
    });

    it('an ICMP error whose quoted packet is cut off, no packet, or was sent by somebody else', () => {
      const quoted = [...udp(ports(POD, REMOTE, 40_000, 53)).subarray(ETHERNET)];
      const error = (quote: readonly number[]): Uint8Array =>
        icmp(WORLD, POD, types.unreachable, types.portUnreachable, [0, 0, 0, 0, ...quote]);
      assert.notEqual(programs.send('from_netdev', error(quoted)).verdict, TC_ACT.SHOT, 'a sound one');
      for (let length = 0; length < headerOf + 8; length++)
        dropped('from_netdev', error(quoted.slice(0, length)), `${length} bytes`);
      dropped('from_netdev', error([0x55, ...quoted.slice(1)]), 'version 5');
      const foreign = [...udp(ports(NODE, REMOTE, 40_000, 53)).subarray(ETHERNET)];
      dropped('from_netdev', error(foreign), 'quoted of another sender');
    });

    it('random bytes changed: what is delivered or translated is always a packet with sound lengths', () => {
      let seed = 9;
      const random = (n: number): number => {
        seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
        return (seed >> 8) % n;
      };
      const found = { delivered: 0, dropped: 0, left: 0 };
      for (let round = 0; round < 400; round++) {
        const [program, from, to] = ways[random(ways.length)]!;
        const name = (['TCP', 'UDP', 'echo'] as const)[random(3)]!;
        const packet = makers[name](from, to).slice();
        for (let times = 1 + random(3); times > 0; times--)
          packet[ETHERNET + random(packet.length - ETHERNET)] = random(256);
        const { verdict, out, reasons } = programs.send(
          program,
          packet.subarray(0, packet.length - random(2)),
        );
        const drops = reasons.filter(each => each.startsWith('DROP_'));
        const what = `${program} ${Buffer.from(packet).toString('hex')} → ${verdict} ${reasons}`;
        assert.equal(drops.length, verdict === TC_ACT.SHOT ? 1 : 0, what);
        if (verdict === TC_ACT.SHOT) found.dropped++;
        else if (verdict === TC_ACT.REDIRECT) {
          found.delivered++;
          const lengths = lengthsOf(out);
          assert.ok(
            lengths && lengths.total >= lengths.header && lengths.total + ETHERNET <= out.length,
            what,
          );
        } else found.left++;
      }
      assert.ok(found.delivered > 20 && found.dropped > 20, JSON.stringify(found));
    });
  });
