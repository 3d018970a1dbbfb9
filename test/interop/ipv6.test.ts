/** The mesh of Isthmus and Cilium over IPv6: a lab of two families (`--family dual`). */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import * as z from 'zod';
import { openLab } from '../../src/lab/open-lab.ts';
import {
  answersCome,
  type ClusterOfTest,
  clusterAddress,
  eventually,
  isthmusOk,
  labName,
  mesh,
  namespace,
  podAddress,
  ready,
  serverPod,
  serviceFor,
  udpQuestion,
} from '../e2e/mesh.ts';
import { bothReady, ciliumAgents, ipcacheAt } from './cilium-agent.ts';

const hasIpv6 = openLab(labName).plan.clusters.every(each => each.ipFamily === 'dual');

describe('over IPv6', { skip: hasIpv6 ? false : 'the lab has no IPv6: --family dual' }, () => {
  let us: ClusterOfTest;
  let eu: ClusterOfTest;
  let ns: Awaited<ReturnType<typeof namespace>>;

  const both = (): readonly (readonly [ClusterOfTest, ClusterOfTest])[] => [
    [us, eu],
    [eu, us],
  ];
  const ask = async (from: ClusterOfTest, expected: string): Promise<true> => {
    const url = `http://[${await clusterAddress(from, ns.name, 'web', 6)}]/hostname`;
    return answersCome(from, ns.name, 'client', expected, { url, seconds: 30 });
  };

  before(async () => {
    ({ us, eu } = await mesh());
    await bothReady(await ciliumAgents(eu), 240);
    ns = await namespace('interop-ipv6');
    for (const each of [us, eu]) {
      await each.apply(serverPod('client', { node: `${each.name}-control-plane` }), ns.name);
      await each.apply(
        serverPod(`${each.name}-web`, { node: `${each.name}-worker`, labels: { app: 'web' } }),
        ns.name,
      );
      await each.apply(serviceFor('web', { annotations: { 'service.cilium.io/global': 'true' } }), ns.name);
      await ready(each, ns.name, 'client', `${each.name}-web`);
    }
  });
  after(() => ns?.[Symbol.asyncDispose]());

  test('every pod is in the ipcache of every node of the other cluster under its IPv6 address', async () => {
    for (const pod of await podsOf(us, ns.name))
      for (const agent of await ciliumAgents(eu))
        await eventually(`${pod.address} on ${agent.node}`, async () => {
          const found = (await ipcacheAt(agent)).get(`${pod.address}/128`);
          return found?.identity === pod.identity;
        });
    for (const pod of await podsOf(eu, ns.name))
      for (const node of ['us-control-plane', 'us-worker'])
        await eventually(
          `${pod.address} on ${node}`,
          async () => (await isthmusIpcache(node)).get(pod.address) === pod.identity,
        );
  });

  test('pods reach pods, both ways, by TCP, UDP and in full packets', async () => {
    for (const [from, to] of both())
      for (const pod of ['client', `${to.name}-web`]) {
        const address = await podAddress(to, ns.name, pod, 6);
        for (const asking of ['client', `${from.name}-web`]) {
          const url = `http://[${address}]:8080`;
          assert.equal(await from.sh(ns.name, asking, `curl -s -m 5 ${url}/hostname`), pod);
          assert.equal((await from.sh(ns.name, asking, udpQuestion(address, 8081))).trim(), pod);
        }
        await from.sh(
          ns.name,
          'client',
          'head -c 300000 /dev/urandom > /tmp/large && md5sum < /tmp/large > /tmp/sum',
        );
        const sum = await from.sh(ns.name, 'client', 'cat /tmp/sum');
        await from.sh(ns.name, 'client', `curl -s -m 10 -F file=@/tmp/large http://[${address}]:8080/upload`);
        assert.equal(await to.sh(ns.name, pod, 'cat /uploads/* | md5sum; rm -f /uploads/*'), sum);
      }
  });

  test('a global service answers from both, in both, and fails over both ways', async () => {
    for (const [own] of both()) await ask(own, 'eu-web us-web');
    for (const [own, other] of both()) {
      await own.kubectl('-n', ns.name, 'annotate', 'service', 'web', 'service.cilium.io/affinity=local');
      await ask(own, `${own.name}-web`);
      await own.kubectl('-n', ns.name, 'label', 'pod', `${own.name}-web`, 'app=none', '--overwrite');
      await ask(own, `${other.name}-web`);
      await ask(other, `${other.name}-web`);
      await own.kubectl('-n', ns.name, 'label', 'pod', `${own.name}-web`, 'app=web', '--overwrite');
      await ask(own, `${own.name}-web`);
      await own.kubectl('-n', ns.name, 'annotate', 'service', 'web', 'service.cilium.io/affinity-');
      for (const each of [own, other]) await ask(each, 'eu-web us-web');
    }
  });
});

interface PodOfTest {
  readonly address: string;
  readonly identity: number;
}

/** The pods of a namespace that run, as the cluster itself has them. */
async function podsOf(cluster: ClusterOfTest, ns: string): Promise<PodOfTest[]> {
  const Endpoints = z.object({
    items: z.array(
      z.object({
        status: z.object({
          identity: z.object({ id: z.number() }),
          networking: z.object({ addressing: z.array(z.object({ ipv6: z.string() })) }),
        }),
      }),
    ),
  });
  const { items } = await cluster.json(Endpoints, '-n', ns, 'get', 'ciliumendpoints');
  return items.map(({ status }) => ({
    address: status.networking.addressing[0]!.ipv6,
    identity: status.identity.id,
  }));
}

/** Address → identity, as the datapath of a node of us has it. */
async function isthmusIpcache(node: string): Promise<ReadonlyMap<string, number>> {
  const Rows = z.array(
    z.object({ key: z.object({ addr: z.string() }), value: z.object({ identity: z.number() }) }),
  );
  const text = await isthmusOk('bpf', 'ipcache', 'list', '--context', 'us', '--node', node, '-o', 'json');
  return new Map(Rows.parse(JSON.parse(text)).map(({ key, value }) => [key.addr, value.identity]));
}
