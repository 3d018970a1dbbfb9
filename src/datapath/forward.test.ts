import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { parse } from './address.ts';
import type { L2ResponderKey, L2ResponderValue } from './l2-responder.ts';
import { linkByName } from './link.ts';
import { Netlink } from './netlink.ts';
import { macBytes } from './netlink-address.ts';
import { icmp, icmpTypes } from './packet.fixture.ts';
import {
  counted,
  createTestbed,
  inNetns,
  planOf,
  ready,
  setNode,
  setService,
  type Testbed,
  wire,
} from './testbed.fixture.ts';

/** Requests after which random choice has left out one of four backends once in a million runs. */
const ENOUGH = '56';

for (const [family, mode] of [
  ['IPv4', 'tcx'],
  ['IPv6', 'tcx'],
  ['IPv4', 'tc'],
] as const)
  describe(`${family} between pods, nodes and the world, programs attached by ${mode}`, () => {
    const tcx = mode === 'tcx';
    const plan = planOf(family);
    const WORLD = plan.world;
    let bed: Testbed;
    before(async () => {
      bed = await createTestbed({ family, tcx });
      for (const node of bed.nodes)
        for (const pod of node.pods)
          await ready(bed.start(pod.netns, wire('serve', pod.ip, '80', '53', plan.any), node));
      for (const node of bed.nodes)
        await ready(bed.start(node.netns, wire('serve', node.ip, '80', '53', plan.any), node));
      await ready(bed.start(bed.world, wire('serve', 'world', '80', '53', plan.any)));
    });
    after(() => bed?.[Symbol.asyncDispose]());

    const answer = async (from: string, ...command: string[]): Promise<string> =>
      (await bed.run(from, wire(...command))).stdout;

    it('pod to pod on one node', async () => {
      const [a, b] = bed.nodes[0].pods;
      assert.equal(await answer(a!.netns, 'tcp', b!.ip, '80'), `${b!.ip} ${a!.ip} ${b!.ip}`);
      assert.equal(await answer(a!.netns, 'udp', b!.ip, '53'), `${b!.ip} ${a!.ip} ${b!.ip}:53`);
    });

    it('pod to pod on another node', async () => {
      const a = bed.nodes[0].pods[0]!;
      const b = bed.nodes[1].pods[0]!;
      assert.equal(await answer(a.netns, 'tcp', b.ip, '80'), `${b.ip} ${a.ip} ${b.ip}`);
      assert.equal(await answer(a.netns, 'udp', b.ip, '53'), `${b.ip} ${a.ip} ${b.ip}:53`);
      const ping = await bed.run(a.netns, [
        'ping',
        '-c1',
        '-W2',
        family === 'IPv4' ? '-s1392' : '-s1352',
        '-Mdo',
        b.ip,
      ]);
      assert.equal(ping.code, 0, ping.stdout);
    });

    it('pod and its own node, pod and another node', async () => {
      const [node, other] = bed.nodes;
      const pod = node.pods[0]!;
      assert.equal(await answer(pod.netns, 'tcp', node.ip, '80'), `${node.ip} ${pod.ip} ${node.ip}`);
      assert.equal(
        await answer(pod.netns, 'tcp', node.internalIp, '80'),
        `${node.ip} ${pod.ip} ${node.internalIp}`,
      );
      assert.equal(await answer(node.netns, 'tcp', pod.ip, '80'), `${pod.ip} ${node.internalIp} ${pod.ip}`);
      // In tunnel mode other nodes see the node, not the pod.
      assert.equal(await answer(pod.netns, 'tcp', other.ip, '80'), `${other.ip} ${node.ip} ${other.ip}`);
      const remote = other.pods[0]!;
      assert.equal(
        await answer(node.netns, 'tcp', remote.ip, '80'),
        `${remote.ip} ${node.internalIp} ${remote.ip}`,
      );
      assert.equal(
        await answer(pod.netns, 'tcp', other.internalIp, '80'),
        `${other.ip} ${pod.ip} ${other.internalIp}`,
      );
    });

    it('pod to the world and back under the address of its node', async () => {
      const node = bed.nodes[0];
      const pod = node.pods[0]!;
      assert.equal(await answer(pod.netns, 'tcp', WORLD, '80'), `world ${node.ip} ${WORLD}`);
      assert.equal(await answer(pod.netns, 'udp', WORLD, '53'), `world ${node.ip} ${WORLD}:53`);
      const ping = await bed.run(pod.netns, ['ping', '-c1', '-W2', WORLD]);
      assert.equal(ping.code, 0, ping.stdout);
      // An ICMP error about a masqueraded packet finds the pod.
      assert.equal(await answer(pod.netns, 'udp', WORLD, '5353', 'connected'), 'ECONNREFUSED');
      assert.ok(counted(node, 'REASON_MASQUERADED') > 0);
    });

    it('a pod may use no address but its own', async () => {
      const node = bed.nodes[0];
      const [a, b] = node.pods;
      const before = counted(node, 'DROP_INVALID_SOURCE');
      const another = plan.pod(1, 75);
      await bed.run(a!.netns, [
        'ip',
        'address',
        'add',
        `${another}/${plan.bits}`,
        'dev',
        'lo',
        ...(family === 'IPv6' ? ['nodad'] : []),
      ]);
      await bed.run(a!.netns, ['ping', '-c1', '-W1', '-I', another, b!.ip]);
      assert.ok(counted(node, 'DROP_INVALID_SOURCE') > before);
    });

    describe('services', () => {
      const VIP = plan.service(10);
      const any = plan.any;
      before(() => {
        const backends = bed.nodes.flatMap((node, at) =>
          node.pods.map((pod, index) => ({ id: at * 2 + index + 1, address: pod.ip, port: 80 })),
        );
        const remote = backends.filter(each => each.id > 2);
        for (const node of bed.nodes) {
          setService(node, { id: 1, address: VIP, port: 8080, protocol: 'tcp', backends });
          setService(node, { id: 2, address: any, port: 30080, protocol: 'tcp', backends });
          setService(node, {
            id: 3,
            address: VIP,
            port: 53,
            protocol: 'udp',
            backends: remote.map(each => ({ ...each, id: each.id + 10, port: 53 })),
          });
          setService(node, { id: 50, address: plan.loopback, port: 8088, protocol: 'tcp', backends });
          setService(node, { id: 4, address: plan.service(99), port: 80, protocol: 'tcp', backends: [] });
          setService(node, { id: 5, address: plan.service(99), port: 80, protocol: 'udp', backends: [] });
          setService(node, { id: 6, address: any, port: 30099, protocol: 'tcp', backends: [] });
          setService(node, { id: 7, address: any, port: 30099, protocol: 'udp', backends: [] });
          setService(node, {
            id: 8,
            address: any,
            port: 30053,
            protocol: 'udp',
            backends: remote.map(each => ({ ...each, id: each.id + 10, port: 53 })),
          });
          setService(node, {
            id: 9,
            address: plan.service(20),
            port: 80,
            protocol: 'tcp',
            backends: bed.nodes.map((each, index) => ({ id: 30 + index, address: each.ip, port: 80 })),
          });
          setService(node, {
            id: 10,
            address: plan.service(30),
            port: 80,
            protocol: 'tcp',
            backends: [{ id: 40, address: bed.nodes[0].pods[0]!.ip, port: 80 }],
          });
        }
      });

      const lines = (text: string): string[] => text.split('\n');
      const isPod = (text: string): boolean =>
        bed.nodes.some(node => node.pods.some(pod => pod.ip === first(text)));
      const first = (text: string): string => text.split(' ')[0]!;

      for (const bySocket of [true, false]) {
        describe(bySocket ? 'at the socket' : 'packet by packet', () => {
          const ask = async (...command: string[]): Promise<string> => {
            const node = bed.nodes[0];
            return (await bed.run(node.pods[0]!.netns, wire(...command), bySocket ? node : undefined)).stdout;
          };

          it('ClusterIP over TCP: all backends in turn, the peer is the frontend', async () => {
            const seen = lines(await ask('tcp', VIP, '8080', ENOUGH));
            const backends = new Set(seen.map(first));
            // At the socket a pod that draws itself talks to itself; by packets it sees the hairpin address.
            assert.deepEqual(
              [...backends].sort(),
              bed.nodes.flatMap(node => node.pods.map(pod => pod.ip)).sort(),
            );
            for (const text of seen) assert.ok(text.endsWith(` ${VIP}`), text);
          });

          it('ClusterIP over UDP: the answer comes from the frontend', async () => {
            for (const connected of ['no', 'connected'])
              assert.ok(
                bed.nodes[1].pods
                  .map(pod => `${pod.ip} ${bed.nodes[0].pods[0]!.ip} ${VIP}:53`)
                  .includes(await ask('udp', VIP, '53', connected)),
              );
          });

          it('a pod reaches itself by its service', async () => {
            const pod = bed.nodes[0].pods[0]!.ip;
            const seen = await ask('tcp', plan.service(30), '80');
            // A link-local address comes with the name of its device.
            assert.equal(
              seen.replace('%eth0', ''),
              `${pod} ${bySocket ? pod : plan.hairpin} ${plan.service(30)}`,
            );
          });

          it('backends in the network of nodes', async () => {
            const seen = new Set(lines(await ask('tcp', plan.service(20), '80', ENOUGH)).map(first));
            assert.deepEqual(
              [...seen].sort(),
              bed.nodes.map(node => node.ip),
            );
          });

          it('NodePort on every node of the own cluster, and on no other address', async () => {
            for (const node of bed.nodes) assert.ok(isPod(await ask('tcp', node.ip, '30080')));
            assert.equal(await ask('tcp', WORLD, '30080'), 'ECONNREFUSED');
            setNode(bed.nodes[0], WORLD, 2, 0);
            assert.equal(await ask('tcp', WORLD, '30080'), 'ECONNREFUSED', 'a node of another cluster');
            bed.nodes[0].datapath.map('nodes').delete({ addr: parse(WORLD) });
          });

          it('refuses at once without a backend', async () => {
            assert.equal(await ask('tcp', plan.service(99), '80'), 'ECONNREFUSED');
            assert.equal(await ask('udp', plan.service(99), '80', 'connected'), 'ECONNREFUSED');
            assert.equal(await ask('tcp', bed.nodes[0].ip, '30099'), 'ECONNREFUSED');
            assert.equal(await ask('tcp', bed.nodes[1].ip, '30099'), 'ECONNREFUSED');
          });
        });
      }

      it('sockets of the node itself: ClusterIP, NodePort also at its loopback', async () => {
        const node = bed.nodes[0];
        const ask = async (...command: string[]): Promise<string> =>
          (await bed.run(node.netns, wire(...command), node)).stdout;
        assert.ok((await ask('tcp', VIP, '8080')).endsWith(` ${VIP}`));
        assert.ok(isPod(await ask('tcp', plan.loopback, '30080')));
        assert.ok(isPod(await ask('tcp', bed.nodes[1].ip, '30080')));
        const pod = await bed.run(node.pods[0]!.netns, wire('tcp', plan.loopback, '30080'), node);
        assert.equal(pod.stdout, 'ECONNREFUSED', "a pod's loopback is its own");
      });

      it('a frontend at loopback, a hostPort: for sockets of the node, for no socket of a pod and no packet', async () => {
        const node = bed.nodes[0];
        const [pod] = node.pods;
        const asked = await bed.run(node.netns, wire('tcp', plan.loopback, '8088'), node);
        assert.ok(isPod(asked.stdout));
        const own = await bed.run(pod!.netns, wire('tcp', plan.loopback, '8088'), node);
        assert.equal(own.stdout, 'ECONNREFUSED');
      });

      it('what the node itself sends past the socket hooks is translated on its way out', async () => {
        const node = bed.nodes[0];
        const seen = lines(await answer(node.netns, 'tcp', VIP, '8080', ENOUGH));
        assert.deepEqual(
          [...new Set(seen.map(first))].sort(),
          bed.nodes.flatMap(each => each.pods.map(pod => pod.ip)).sort(),
        );
        assert.ok((await answer(node.netns, 'udp', VIP, '53')).endsWith(` ${VIP}:53`));
        assert.equal(await answer(node.netns, 'tcp', plan.service(99), '80'), 'ECONNREFUSED');
      });

      it('NodePort from outside: backends on this node and on another', async () => {
        for (const node of bed.nodes) {
          const seen = lines(await answer(bed.world, 'tcp', node.ip, '30080', ENOUGH));
          assert.deepEqual(
            [...new Set(seen.map(first))].sort(),
            bed.nodes.flatMap(each => each.pods.map(pod => pod.ip)).sort(),
          );
          for (const text of seen) {
            const [backend = '', client] = text.split(' ');
            const local = node.pods.some(pod => pod.ip === backend);
            assert.equal(client, local ? WORLD : node.internalIp, 'a local backend sees the client');
          }
        }
        for (const { ip } of bed.nodes)
          assert.ok((await answer(bed.world, 'udp', ip, '30053')).endsWith(` ${ip}:30053`));
      });

      it('an announced address, which no device has, is found on its link and served', async () => {
        const [node] = bed.nodes;
        const { index, mac } = inNetns(node.netns, () => {
          using netlink = new Netlink();
          return linkByName(netlink, 'eth0')!;
        });
        const address = plan.node(200);
        const pods = node.pods.map(pod => pod.ip);
        setService(node, {
          id: 200,
          address,
          port: 80,
          protocol: 'tcp',
          backends: pods.map((pod, at) => ({ id: 200 + at, address: pod, port: 80 })),
        });
        const responders = node.datapath.map<L2ResponderKey, L2ResponderValue>('l2_responders');
        const key = { addr: parse(address), ifindex: index };
        responders.set(key, { mac: macBytes(mac), answers: 0 });
        const seen = lines(await answer(bed.world, 'tcp', address, '80', ENOUGH));
        for (const text of seen) assert.equal(text.split(' ')[1], WORLD, 'a local backend sees the client');
        assert.deepEqual([...new Set(seen.map(first))].sort(), [...pods].sort());
        assert.ok(responders.get(key)!.answers > 0);
        responders.delete(key);
      });

      it('NodePort without a backend refuses clients outside', async () => {
        assert.equal(await answer(bed.world, 'tcp', bed.nodes[0].ip, '30099'), 'ECONNREFUSED');
        assert.equal(await answer(bed.world, 'udp', bed.nodes[0].ip, '30099', 'connected'), 'ECONNREFUSED');
      });
    });

    it('VXLAN from an unknown address, or in the name of others, is dropped and counted', async () => {
      const node = bed.nodes[0];
      const pod = node.pods[0]!;
      const inner = pingFrame(bed.nodes[1].pods[0]!.ip, pod.ip);
      const forge = async (
        from: string,
        source: string,
        vni: number,
        reason: string,
        frame = inner,
      ): Promise<void> => {
        const before = counted(node, reason);
        const forged = await bed.run(from, wire('raw-vxlan', source, node.ip, String(vni), frame));
        assert.equal(forged.code, 0, forged.stderr);
        await until(() => counted(node, reason) > before, reason);
      };
      await forge(bed.world, WORLD, 0x10120, 'DROP_TUNNEL_FROM_UNKNOWN_NODE');
      const other = bed.nodes[1];
      await forge(other.netns, other.ip, 0x20120, 'DROP_TUNNEL_FOREIGN_IDENTITY');
      await forge(other.netns, other.ip, 1, 'DROP_TUNNEL_FOREIGN_IDENTITY');
      await forge(other.netns, other.ip, 0x10009, 'DROP_TUNNEL_FOREIGN_IDENTITY');
      const asNeighbour = pingFrame(node.pods[1]!.ip, pod.ip);
      await forge(other.netns, other.ip, 0x10120, 'DROP_TUNNEL_FOREIGN_SOURCE', asNeighbour);
      const delivered = counted(node, 'REASON_FORWARDED');
      await bed.run(other.netns, wire('raw-vxlan', other.ip, node.ip, String(0x10120), inner));
      await until(() => counted(node, 'REASON_FORWARDED') > delivered, 'an honest one is delivered');
    });

    it('a restarted agent loses no packet of what flows', async () => {
      const [node, other] = bed.nodes;
      const server = bed.start(other.pods[0]!.netns, ['iperf3', '-s', '-1', '--forceflush']);
      await once(server.stdout!, 'data');
      const stream = bed.run(node.pods[0]!.netns, [
        'iperf3',
        '-c',
        other.pods[0]!.ip,
        '-u',
        '-b',
        '10M',
        '-l',
        '1200',
        '-t',
        '4',
        '-J',
      ]);
      for (let time = 0; time < 3; time++) {
        const links = node.datapath.pinned();
        node.reload();
        other.reload();
        assert.deepEqual(node.datapath.pinned(), links);
        assert.deepEqual(node.datapath.staleMaps(), []);
      }
      const { stdout } = await stream;
      const { end } = JSON.parse(stdout) as { end: { sum: { lost_packets: number; packets: number } } };
      // What a busy machine's receiver did not fetch in time was delivered all the same.
      const counters = await bed.run(other.pods[0]!.netns, ['nstat', '-asz', 'Udp*RcvbufErrors']);
      const overflown = [...counters.stdout.matchAll(/RcvbufErrors +(\d+)/g)].reduce(
        (sum, [, value]) => sum + Number(value),
        0,
      );
      assert.ok(end.sum.packets > 2_000);
      assert.equal(Math.max(0, end.sum.lost_packets - overflown), 0);
    });

    it('an agent that attaches in the other mode leaves nothing of the first', async () => {
      const node = bed.nodes[0];
      const a = node.pods[0]!;
      const b = bed.nodes[1].pods[0]!;
      const attached = node.datapath.pinned();
      const filters = async (): Promise<number> => {
        const { stdout } = await bed.run(node.netns, ['bpftool', '-j', 'net', 'show', 'dev', 'eth0']);
        const [{ tc }] = JSON.parse(stdout) as [{ readonly tc: readonly { readonly kind: string }[] }];
        return tc.filter(each => each.kind.startsWith('clsact')).length;
      };
      for (const other of [!tcx, tcx]) {
        node.reload(other);
        assert.equal(await filters(), node.datapath.attachMode === 'tcx' ? 0 : 2);
        assert.deepEqual(node.datapath.pinned(), attached);
        assert.equal(await answer(a.netns, 'tcp', b.ip, '80'), `${b.ip} ${a.ip} ${b.ip}`);
      }
    });

    it('a bulk stream across the tunnel keeps its large segments', async () => {
      const [node, other] = bed.nodes;
      const server = bed.start(other.pods[1]!.netns, ['iperf3', '-s', '-1', '--forceflush']);
      await once(server.stdout!, 'data');
      const { stdout } = await bed.run(node.pods[0]!.netns, [
        'iperf3',
        '-c',
        other.pods[1]!.ip,
        '-n',
        '200M',
        '-J',
      ]);
      const { end } = JSON.parse(stdout) as { end: Record<'sum_sent' | 'sum_received', { bytes: number }> };
      assert.ok(end.sum_sent.bytes >= 200_000_000);
      // The test ends when all is sent: what buffers hold then is not counted any more.
      assert.ok(end.sum_received.bytes > 150_000_000, `${end.sum_received.bytes} bytes`);
      const link = await bed.run(node.netns, ['ip', '-j', '-s', 'link', 'show', 'eth0']);
      const [{ stats64 } = { stats64: { tx: { bytes: 0, packets: 1 } } }] = JSON.parse(link.stdout) as {
        stats64: { tx: { bytes: number; packets: number } };
      }[];
      assert.ok(stats64.tx.bytes / stats64.tx.packets > 5_000, 'offload survives encapsulation');
    });

    it('fragments: a datagram larger than the tunnel, to a pod and by a service', async () => {
      const a = bed.nodes[0].pods[0]!;
      const b = bed.nodes[1].pods[0]!;
      for (const target of [b.ip, WORLD]) {
        const ping = await bed.run(a.netns, ['ping', '-c1', '-W2', '-s4000', target]);
        assert.equal(ping.code, 0, ping.stdout);
      }
    });
  });

for (const [family, underlay] of [
  ['IPv4', 'IPv4'],
  ['IPv6', 'IPv6'],
  ['IPv6', 'IPv4'],
] as const)
  it(`${family} in a tunnel over ${underlay}, unpacked by the device, sockets of pods left to the packet programs`, async () => {
    const plan = planOf(family);
    const VIP = plan.service(10);
    await using bed = await createTestbed({ family, underlay, flags: 1 | 2 });
    const node = bed.nodes[0];
    const a = node.pods[0]!;
    const b = bed.nodes[1].pods[0]!;
    await ready(bed.start(b.netns, wire('serve', b.ip, '80', '53', plan.any)));
    assert.equal((await bed.run(a.netns, wire('tcp', b.ip, '80'))).stdout, `${b.ip} ${a.ip} ${b.ip}`);
    assert.equal((await bed.run(a.netns, wire('udp', b.ip, '53'))).stdout, `${b.ip} ${a.ip} ${b.ip}:53`);

    const backends = [{ id: 1, address: b.ip, port: 80 }];
    setService(node, { id: 1, address: VIP, port: 8080, protocol: 'tcp', backends });
    const flows = (): number => [...node.datapath.map('nat').entries()].length;
    assert.equal(flows(), 0);
    const ask = async (netns: string): Promise<string> =>
      (await bed.run(netns, wire('tcp', VIP, '8080'), node)).stdout;
    assert.equal(await ask(node.netns), `${b.ip} ${node.internalIp} ${VIP}`);
    assert.equal(flows(), 0, "the node's own socket was translated");
    assert.equal(await ask(a.netns), `${b.ip} ${a.ip} ${VIP}`);
    assert.equal(flows(), 2, "the pod's packets were");
  });

it('IPv6 between nodes of both families, in a tunnel over IPv4', async () => {
  await using bed = await createTestbed({ family: 'IPv6', underlay: 'IPv4' });
  const [node, other] = bed.nodes;
  const a = node.pods[0]!;
  const b = other.pods[0]!;
  for (const [netns, name] of [
    [b.netns, b.ip],
    [bed.world, 'world'],
  ] as const)
    await ready(bed.start(netns, wire('serve', name, '80', '53', '::')));
  const ask = async (...command: string[]): Promise<string> =>
    (await bed.run(a.netns, wire(...command), node)).stdout;
  assert.equal(await ask('tcp', b.ip, '80'), `${b.ip} ${a.ip} ${b.ip}`);
  assert.equal(await ask('udp', b.ip, '53'), `${b.ip} ${a.ip} ${b.ip}:53`);
  assert.equal(await ask('tcp', bed.worldIp, '80'), `world ${node.ip} ${bed.worldIp}`);
  const mapped = planOf('IPv4').service(10);
  setService(node, {
    id: 1,
    address: mapped,
    port: 80,
    protocol: 'tcp',
    backends: [{ id: 1, address: planOf('IPv4').pod(2, 0), port: 80 }],
  });
  // A socket of IPv6 that calls IPv4 by a mapped address meets the service of IPv4.
  assert.equal(
    await ask('tcp', `::ffff:${mapped}`, '80'),
    `${b.ip} ${planOf('IPv4').pod(1, 0)} ::ffff:${mapped}`,
  );
  const { stdout } = await bed.run(a.netns, ['ping', '-c1', '-W2', '-s1402', '-Mdo', b.ip]);
  assert.match(stdout, / 1 received/, 'as large as the tunnel over IPv4 lets it be');
});

async function until(condition: () => boolean, what: string): Promise<void> {
  const end = performance.now() + 3_000;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`waited in vain: ${what}`);
    await new Promise(done => setTimeout(done, 5));
  }
}

/** An Ethernet frame with an ICMP echo request, in hex. */
const pingFrame = (from: string, to: string): string =>
  Buffer.from(icmp(from, to, icmpTypes(from).echo, 0, [0x12, 0x34, 0, 1])).toString('hex');
