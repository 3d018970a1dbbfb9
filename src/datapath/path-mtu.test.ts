/** Two nodes with a router between them whose link carries less than theirs do. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { it } from 'node:test';
import { createTestbed, planOf } from './testbed.fixture.ts';

for (const [family, told] of [
  ['IPv4', false],
  ['IPv6', true],
] as const)
  it(`${family} in a tunnel over ${family}: a stream between pods finds the size that fits`, async () => {
    await using bed = await createTestbed({ family });
    const [here, there] = bed.nodes;
    const [client, server] = [here.pods[0]!, there.pods[1]!];
    const ip = family === 'IPv6' ? 'ip -6' : 'ip';
    const run = async (netns: string, script: string): Promise<void> => {
      const { code, stderr } = await bed.run(netns, ['sh', '-ec', script]);
      assert.equal(code, 0, stderr);
    };
    const { world: router, node } = planOf(family);
    // Nodes send to each other by the router, which does not tell them that there is a shorter way.
    await run(
      bed.world,
      `for each in /proc/sys/net/ipv4/conf/*/send_redirects; do echo 0 >$each; done
       echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
       link=$(${ip} -o route get ${node(1)} | sed 's/.* dev \\([^ ]*\\).*/\\1/')
       for each in ${node(1)} ${node(2)}; do ${ip} route add $each dev $link mtu 1350; done`,
    );
    await run(here.netns, `${ip} route add ${there.ip} via ${router}`);
    await run(there.netns, `${ip} route add ${here.ip} via ${router}`);
    const listens = bed.start(server.netns, ['iperf3', '-s', '-1', '--forceflush']);
    await once(listens.stdout!, 'data');
    const sent = await bed.run(client.netns, [
      ...['timeout', '60', 'iperf3', '-c', server.ip, '-n', '1M', '-J'],
    ]);
    assert.equal(sent.code, 0, sent.stdout);

    const [reason] = [...here.datapath.reasons].find(([, name]) => name === 'REASON_TUNNEL_TOO_BIG')!;
    const metrics = here.datapath.map<number, { readonly packets: bigint }>('metrics');
    const times = [0, 1, 2, 3].flatMap(direction => metrics.getPerCpu(reason * 4 + direction));
    // Outer packets of IPv4 are fragmented by the router.
    assert.equal(
      times.some(({ packets }) => packets > 0n),
      told,
    );
  });
