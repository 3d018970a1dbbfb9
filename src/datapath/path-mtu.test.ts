/** Two nodes with a router between them whose link carries less than theirs do. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { it } from 'node:test';
import { counted, createTestbed, planOf, setService } from './testbed.fixture.ts';

/** Of pods and of the tunnel, by whom the server is asked, and whether he is told: outer packets of IPv4 are fragmented. */
const cases = [
  ['IPv4', 'IPv4', 'a pod', false],
  ['IPv6', 'IPv6', 'a pod', true],
  ['IPv4', 'IPv6', 'a pod', true],
  ['IPv6', 'IPv6', 'a pod that asks a service', true],
  ['IPv4', 'IPv6', 'a pod that asks a service', true],
  ['IPv6', 'IPv6', 'a client outside that asks a service', true],
] as const;

for (const [family, underlay, who, told] of cases)
  it(`${family} in a tunnel over ${underlay}: a stream from ${who} finds the size that fits`, async () => {
    await using bed = await createTestbed({ family, underlay });
    const [here, there] = bed.nodes;
    const [client, server] = [here.pods[0]!, there.pods[1]!];
    const ip = underlay === 'IPv6' ? 'ip -6' : 'ip';
    const run = async (netns: string, script: string): Promise<void> => {
      const { code, stderr } = await bed.run(netns, ['sh', '-ec', script]);
      assert.equal(code, 0, stderr);
    };
    const { world: router, node } = planOf(underlay);
    // Nodes send to each other by the router, which does not tell them that there is a shorter way.
    await run(
      bed.world,
      `for each in /proc/sys/net/ipv4/conf/*/send_redirects; do echo 0 >$each; done
       echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
       link=$(${ip} -o route get ${node(1)} | sed 's/.* dev \\([^ ]*\\).*/\\1/')
       for each in ${node(1)} ${node(2)}; do ${ip} route add $each dev $link mtu 1350; done`,
    );
    for (const [at, to] of [
      [here, 2],
      [there, 1],
    ] as const)
      await run(at.netns, `${ip} route add ${node(to)} via ${router}`);
    const backends = [{ id: 1, address: server.ip, port: 5201 }];
    const { any, service } = planOf(family);
    for (const address of [any, service(1)])
      setService(here, { id: 1, address, port: address === any ? 30080 : 80, protocol: 'tcp', backends });
    const listens = bed.start(server.netns, ['iperf3', '-s', '-1', '--forceflush']);
    await once(listens.stdout!, 'data');
    const [from, ...asked] = {
      'a pod': [client.netns, server.ip],
      'a pod that asks a service': [client.netns, service(1), '-p', '80'],
      'a client outside that asks a service': [bed.world, here.ip, '-p', '30080'],
    }[who];
    const sent = await bed.run(from!, ['timeout', '60', 'iperf3', '-n', '1M', '-J', '-c', ...asked]);
    assert.equal(sent.code, 0, sent.stdout + sent.stderr);
    assert.equal(counted(here, 'REASON_TUNNEL_TOO_BIG') > 0, told);
  });
