import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { createTestbed, type Testbed, wire } from './testbed.fixture.ts';

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
