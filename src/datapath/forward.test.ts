import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { parse } from './address.ts';
import { counted, createTestbed, setNode, setService, type Testbed, WORLD, wire } from './testbed.fixture.ts';

describe('packets between pods, nodes and the world', () => {
  let bed: Testbed;
  before(async () => {
    bed = await createTestbed();
    for (const node of bed.nodes)
      for (const pod of node.pods) await ready(bed.start(pod.netns, wire('serve', pod.ip, '80', '53'), node));
    for (const node of bed.nodes)
      await ready(bed.start(node.netns, wire('serve', node.ip, '80', '53'), node));
    await ready(bed.start(bed.world, wire('serve', 'world', '80', '53')));
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
    const ping = await bed.run(a.netns, ['ping', '-c1', '-W2', '-s1392', '-Mdo', b.ip]);
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
    await bed.run(a!.netns, ['ip', 'address', 'add', '10.1.1.77/32', 'dev', 'lo']);
    await bed.run(a!.netns, ['ping', '-c1', '-W1', '-I', '10.1.1.77', b!.ip]);
    assert.ok(counted(node, 'DROP_INVALID_SOURCE') > before);
  });

  describe('services', () => {
    const VIP = '10.96.0.10';
    before(() => {
      const backends = bed.nodes.flatMap((node, at) =>
        node.pods.map((pod, index) => ({ id: at * 2 + index + 1, address: pod.ip, port: 80 })),
      );
      const remote = backends.filter(each => each.address.startsWith('10.1.2.'));
      for (const node of bed.nodes) {
        setService(node, { id: 1, address: VIP, port: 8080, protocol: 'tcp', backends });
        setService(node, { id: 2, port: 30080, protocol: 'tcp', backends });
        setService(node, {
          id: 3,
          address: VIP,
          port: 53,
          protocol: 'udp',
          backends: remote.map(each => ({ ...each, id: each.id + 10, port: 53 })),
        });
        setService(node, { id: 4, address: '10.96.0.99', port: 80, protocol: 'tcp', backends: [] });
        setService(node, { id: 5, address: '10.96.0.99', port: 80, protocol: 'udp', backends: [] });
        setService(node, { id: 6, port: 30099, protocol: 'tcp', backends: [] });
        setService(node, { id: 7, port: 30099, protocol: 'udp', backends: [] });
        setService(node, {
          id: 8,
          port: 30053,
          protocol: 'udp',
          backends: remote.map(each => ({ ...each, id: each.id + 10, port: 53 })),
        });
        setService(node, {
          id: 9,
          address: '10.96.0.20',
          port: 80,
          protocol: 'tcp',
          backends: bed.nodes.map((each, index) => ({ id: 30 + index, address: each.ip, port: 80 })),
        });
        setService(node, {
          id: 10,
          address: '10.96.0.30',
          port: 80,
          protocol: 'tcp',
          backends: [{ id: 40, address: bed.nodes[0].pods[0]!.ip, port: 80 }],
        });
      }
    });

    const lines = (text: string): string[] => text.split('\n');
    const first = (text: string): string => text.split(' ')[0]!;

    for (const bySocket of [true, false]) {
      describe(bySocket ? 'at the socket' : 'packet by packet', () => {
        const ask = async (...command: string[]): Promise<string> => {
          const node = bed.nodes[0];
          return (await bed.run(node.pods[0]!.netns, wire(...command), bySocket ? node : undefined)).stdout;
        };

        it('ClusterIP over TCP: all backends in turn, the peer is the frontend', async () => {
          const seen = lines(await ask('tcp', VIP, '8080', '24'));
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
            assert.match(
              await ask('udp', VIP, '53', connected),
              /^10\.1\.2\.[23] 10\.1\.1\.2 10\.96\.0\.10:53$/,
            );
        });

        it('a pod reaches itself by its service', async () => {
          assert.match(
            await ask('tcp', '10.96.0.30', '80'),
            /^10\.1\.1\.2 (10\.1\.1\.2|169\.254\.42\.1) 10\.96\.0\.30$/,
          );
        });

        it('backends in the network of nodes', async () => {
          const seen = new Set(lines(await ask('tcp', '10.96.0.20', '80', '16')).map(first));
          assert.deepEqual(
            [...seen].sort(),
            bed.nodes.map(node => node.ip),
          );
        });

        it('NodePort on every node of the own cluster, and on no other address', async () => {
          for (const node of bed.nodes) assert.match(await ask('tcp', node.ip, '30080'), /^10\.1\./);
          assert.equal(await ask('tcp', WORLD, '30080'), 'ECONNREFUSED');
          setNode(bed.nodes[0], WORLD, 2, 0);
          assert.equal(await ask('tcp', WORLD, '30080'), 'ECONNREFUSED', 'a node of another cluster');
          bed.nodes[0].datapath.map('nodes').delete({ addr: parse(WORLD) });
        });

        it('refuses at once without a backend', async () => {
          assert.equal(await ask('tcp', '10.96.0.99', '80'), 'ECONNREFUSED');
          assert.equal(await ask('udp', '10.96.0.99', '80', 'connected'), 'ECONNREFUSED');
          assert.equal(await ask('tcp', bed.nodes[0].ip, '30099'), 'ECONNREFUSED');
          assert.equal(await ask('tcp', bed.nodes[1].ip, '30099'), 'ECONNREFUSED');
        });
      });
    }

    it('sockets of the node itself: ClusterIP, NodePort also at its loopback', async () => {
      const node = bed.nodes[0];
      const ask = async (...command: string[]): Promise<string> =>
        (await bed.run(node.netns, wire(...command), node)).stdout;
      assert.match(await ask('tcp', VIP, '8080'), / 10\.96\.0\.10$/);
      assert.match(await ask('tcp', '127.0.0.1', '30080'), /^10\.1\./);
      assert.match(await ask('tcp', bed.nodes[1].ip, '30080'), /^10\.1\./);
      const pod = await bed.run(node.pods[0]!.netns, wire('tcp', '127.0.0.1', '30080'), node);
      assert.equal(pod.stdout, 'ECONNREFUSED', "a pod's loopback is its own");
    });

    it('what the node itself sends past the socket hooks is translated on its way out', async () => {
      const node = bed.nodes[0];
      const seen = lines(await answer(node.netns, 'tcp', VIP, '8080', '24'));
      assert.deepEqual(
        [...new Set(seen.map(first))].sort(),
        bed.nodes.flatMap(each => each.pods.map(pod => pod.ip)).sort(),
      );
      assert.match(await answer(node.netns, 'udp', VIP, '53'), / 10\.96\.0\.10:53$/);
      assert.equal(await answer(node.netns, 'tcp', '10.96.0.99', '80'), 'ECONNREFUSED');
    });

    it('NodePort from outside: backends on this node and on another', async () => {
      for (const node of bed.nodes) {
        const seen = lines(await answer(bed.world, 'tcp', node.ip, '30080', '24'));
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
      assert.match(await answer(bed.world, 'udp', bed.nodes[0].ip, '30053'), / 192\.168\.77\.1:30053$/);
      assert.match(await answer(bed.world, 'udp', bed.nodes[1].ip, '30053'), / 192\.168\.77\.2:30053$/);
    });

    it('NodePort without a backend refuses clients outside', async () => {
      assert.equal(await answer(bed.world, 'tcp', bed.nodes[0].ip, '30099'), 'ECONNREFUSED');
      assert.equal(await answer(bed.world, 'udp', bed.nodes[0].ip, '30099', 'connected'), 'ECONNREFUSED');
    });
  });

  it('VXLAN from an unknown address, or with an identity of another cluster, is dropped and counted', async () => {
    const node = bed.nodes[0];
    const pod = node.pods[0]!;
    const inner = pingFrame('10.1.2.2', pod.ip);
    const forge = async (from: string, source: string, vni: number, reason: string): Promise<void> => {
      const before = counted(node, reason);
      const forged = await bed.run(from, wire('raw-vxlan', source, node.ip, String(vni), inner));
      assert.equal(forged.code, 0, forged.stderr);
      await until(() => counted(node, reason) > before, reason);
    };
    await forge(bed.world, WORLD, 0x10120, 'DROP_TUNNEL_FROM_UNKNOWN_NODE');
    const other = bed.nodes[1];
    await forge(other.netns, other.ip, 0x20120, 'DROP_TUNNEL_FOREIGN_IDENTITY');
    await forge(other.netns, other.ip, 1, 'DROP_TUNNEL_FOREIGN_IDENTITY');
    await forge(other.netns, other.ip, 0x10009, 'DROP_TUNNEL_FOREIGN_IDENTITY');
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
      const links = node.datapath.pinnedLinks();
      node.reload();
      other.reload();
      assert.deepEqual(node.datapath.pinnedLinks(), links);
      assert.deepEqual(node.datapath.staleMaps(), []);
    }
    const { stdout } = await stream;
    const { end } = JSON.parse(stdout) as { end: { sum: { lost_packets: number; packets: number } } };
    // What a busy machine's receiver did not fetch in time was delivered all the same.
    const snmp = await bed.run(other.pods[0]!.netns, ['cat', '/proc/net/snmp']);
    const [names = [], values = []] = snmp.stdout
      .split('\n')
      .filter(line => line.startsWith('Udp:'))
      .map(line => line.split(' '));
    const overflown = Number(values[names.indexOf('RcvbufErrors')]);
    assert.ok(end.sum.packets > 2_000);
    assert.equal(Math.max(0, end.sum.lost_packets - overflown), 0);
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
    const { end } = JSON.parse(stdout) as { end: { sum_received: { bytes: number } } };
    assert.ok(end.sum_received.bytes > 190_000_000);
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

it('with unpacking left to the device, and sockets of pods left to the packet programs', async () => {
  await using bed = await createTestbed({ flags: 1 | 2 });
  const node = bed.nodes[0];
  const a = node.pods[0]!;
  const b = bed.nodes[1].pods[0]!;
  await ready(bed.start(b.netns, wire('serve', b.ip, '80', '53')));
  assert.equal((await bed.run(a.netns, wire('tcp', b.ip, '80'))).stdout, `${b.ip} ${a.ip} ${b.ip}`);
  assert.equal((await bed.run(a.netns, wire('udp', b.ip, '53'))).stdout, `${b.ip} ${a.ip} ${b.ip}:53`);

  const backends = [{ id: 1, address: b.ip, port: 80 }];
  setService(node, { id: 1, address: '10.96.0.10', port: 8080, protocol: 'tcp', backends });
  const flows = (): number => [...node.datapath.map('nat').entries()].length;
  assert.equal(flows(), 0);
  const ask = async (netns: string): Promise<string> =>
    (await bed.run(netns, wire('tcp', '10.96.0.10', '8080'), node)).stdout;
  assert.equal(await ask(node.netns), `${b.ip} ${node.internalIp} 10.96.0.10`);
  assert.equal(flows(), 0, "the node's own socket was translated");
  assert.equal(await ask(a.netns), `${b.ip} ${a.ip} 10.96.0.10`);
  assert.equal(flows(), 2, "the pod's packets were");
});

async function ready(child: ReturnType<Testbed['start']>): Promise<void> {
  const stderr: Buffer[] = [];
  child.stderr?.on('data', (data: Buffer) => stderr.push(data));
  const gone = once(child, 'exit').then(() => {
    throw new Error(`server ended: ${Buffer.concat(stderr)}`);
  });
  gone.catch(() => undefined);
  await Promise.race([once(child.stdout!, 'data'), gone]);
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const end = performance.now() + 3_000;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`waited in vain: ${what}`);
    await new Promise(done => setTimeout(done, 5));
  }
}

/** An Ethernet frame with an ICMP echo request, in hex. */
function pingFrame(from: string, to: string): string {
  const address = (text: string): number[] => text.split('.').map(Number);
  const ip = [0x45, 0, 0, 28, 0, 1, 0, 0, 64, 1, 0, 0, ...address(from), ...address(to)];
  const sum = checksum(ip);
  ip[10] = sum >> 8;
  ip[11] = sum & 0xff;
  const icmp = [8, 0, 0, 0, 0x12, 0x34, 0, 1];
  const icmpSum = checksum(icmp);
  icmp[2] = icmpSum >> 8;
  icmp[3] = icmpSum & 0xff;
  return Buffer.from([...new Array<number>(12).fill(2), 8, 0, ...ip, ...icmp]).toString('hex');
}

/** RFC 1071. */
function checksum(bytes: readonly number[]): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += (bytes[at]! << 8) | (bytes[at + 1] ?? 0);
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}
