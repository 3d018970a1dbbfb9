/** Direct server return as a client outside sees it: this machine, behind the lab's router. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { rm, writeFile } from 'node:fs/promises';
import { Agent, get, type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import * as z from 'zod';
import { upgradeIsthmus } from '../../src/cli/install.ts';
import { waitForStatus } from '../../src/cli/status.ts';
import { statusText } from '../../src/cli/status-text.ts';
import { type LabCluster, openLab } from '../../src/lab/open-lab.ts';
import { loadBalancerRange, type NodePlan, subnetsOf } from '../../src/lab/plan.ts';
import { run } from '../../src/lab/process.ts';

const NS = 'outside';
const lab = openLab(process.env.ISTHMUS_TEST_LAB ?? 'outside');
const us: LabCluster = lab.cluster('us');
const [, first, second] = us.plan.nodes as [NodePlan, NodePlan, NodePlan];
const cluster = { context: us.context, kubeconfig: us.kubeconfig, namespace: 'kube-system' };
const HTTP = 30_080;
const UDP = 30_081;

/** This machine's address, and that of a node, in a family. */
const families = [
  ['IPv4', lab.plan.router.hostAddress, (node: NodePlan) => node.address],
  ['IPv6', lab.plan.router.hostAddress6, (node: NodePlan) => node.address6],
] as const;

const apply = async (...objects: readonly object[]): Promise<void> => {
  const path = `${us.kubeconfig}.objects`;
  await writeFile(path, JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }));
  await us.kubectl('apply', '-f', path).finally(() => rm(path));
};

const service = (name: string, annotations: Record<string, string> = {}, spec: object = {}): object => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: NS, annotations },
  spec: {
    type: 'LoadBalancer',
    ipFamilyPolicy: 'RequireDualStack',
    selector: { app: 'server' },
    ports: [
      { name: 'http', port: 80, targetPort: 8080 },
      { name: 'udp', port: 81, targetPort: 8081, protocol: 'UDP' },
    ],
    ...spec,
  },
});

/** Changes values of the release and awaits that all agents have them. */
async function configure(...set: readonly string[]): Promise<string> {
  await upgradeIsthmus({ cluster, values: { set }, report: line => console.error(line) });
  await us.kubectl('-n', 'kube-system', 'rollout', 'status', 'daemonset/isthmus', '--timeout=180s');
  return statusText(await waitForStatus({ cluster, duration: 60_000, report: line => console.error(line) }));
}

const inUrl = (address: string): string => (address.includes(':') ? `[${address}]` : address);

/** The client's address as the backend sees it, by HTTP; or why there was no answer. */
async function overTcp(address: string, port: number): Promise<string> {
  try {
    const response = await fetch(`http://${inUrl(address)}:${port}/clientip`, {
      signal: AbortSignal.timeout(3_000),
      headers: { connection: 'close' },
    });
    return withoutPort(await response.text());
  } catch (error) {
    const cause = error instanceof Error ? (error.cause ?? error) : error;
    if (!(cause instanceof Error)) return String(cause);
    return 'code' in cause && typeof cause.code === 'string' ? cause.code : cause.name;
  }
}

const withoutPort = (text: string): string => text.replace(/:\d+$/, '').replace(/[[\]]/g, '');

/**
 * The same by UDP, of a connected socket: it hears its peer and nobody else. An answer that is lost, or a question
 * too large, is asked for again; what came before the answer is given with it.
 */
async function overUdp(address: string, port: number, question = 'clientip'): Promise<string[]> {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  const heard: string[] = [];
  try {
    socket.connect(port, address);
    await once(socket, 'connect');
    for (let time = 0; time < 5; time++) {
      const answer = once(socket, 'message', { signal: AbortSignal.timeout(1_000) });
      socket.send(question);
      try {
        const [message] = (await answer) as [Buffer];
        return [...heard, String(message)];
      } catch (error) {
        heard.push(error instanceof Error && 'code' in error ? String(error.code) : String(error));
      }
    }
    return heard;
  } finally {
    socket.close();
  }
}
const clientByUdp = async (address: string, port: number): Promise<string> =>
  withoutPort((await overUdp(address, port)).at(-1)!);

async function eventually<T>(
  what: string,
  check: () => Promise<T>,
  expected: T,
  seconds = 30,
): Promise<void> {
  const end = performance.now() + seconds * 1000;
  for (;;) {
    const found = await check();
    if (found === expected) return;
    if (performance.now() > end) assert.deepEqual(found, expected, what);
    await pause(100);
  }
}

const External = z.object({
  status: z.object({ loadBalancer: z.object({ ingress: z.array(z.object({ ip: z.string() })) }) }),
});
async function externalAddress(name: string, family: string): Promise<string> {
  const read = async (): Promise<string | undefined> => {
    const object = External.safeParse(
      JSON.parse(await us.kubectl('-n', NS, 'get', 'service', name, '-o', 'json')),
    );
    return object.data?.status.loadBalancer.ingress.find(
      each => each.ip.includes(':') === (family === 'IPv6'),
    )?.ip;
  };
  await eventually(`address of ${name}`, async () => (await read()) !== undefined, true);
  return (await read())!;
}

/** Packets that the router hears from a node in the name of an address, and were sent since `since`. */
async function heardFrom(
  node: NodePlan,
  address: string,
  port: number,
): Promise<AsyncDisposable & { count(): Promise<number> }> {
  const table = `outside_${node.name.replaceAll('-', '_')}`;
  const link = JSON.parse(await us.exec(node.name, 'ip', '-j', 'link', 'show', 'eth0')) as [
    { readonly address: string },
  ];
  const nft = (text: string): Promise<string> =>
    run('ip', ['netns', 'exec', lab.plan.router.namespace, 'nft', '-f', '-'], { input: text });
  const family = address.includes(':') ? 'ip6' : 'ip';
  await nft(`table inet ${table} {
    counter answers { }
    chain heard {
      type filter hook prerouting priority raw;
      ether saddr ${link[0].address} ${family} saddr ${address} udp sport ${port} counter name answers
    }
  }`);
  return {
    async count() {
      const out = await run('ip', [
        ...['netns', 'exec', lab.plan.router.namespace],
        ...['nft', '-j', 'list', 'counter', 'inet', table, 'answers'],
      ]);
      const { nftables } = z
        .object({ nftables: z.array(z.object({ counter: z.object({ packets: z.number() }).optional() })) })
        .parse(JSON.parse(out));
      return nftables.find(each => each.counter)!.counter!.packets;
    },
    async [Symbol.asyncDispose]() {
      await nft(`delete table inet ${table}`);
    },
  };
}

before(async () => {
  const blocks = subnetsOf(us.plan).map(subnet => ({ cidr: loadBalancerRange(subnet) }));
  await apply(
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: NS } },
    {
      apiVersion: 'cilium.io/v2',
      kind: 'CiliumLoadBalancerIPPool',
      metadata: { name: 'lab' },
      spec: { blocks },
    },
  );
  await eventually(
    'default ServiceAccount',
    () =>
      us.kubectl('-n', NS, 'get', 'serviceaccount', 'default').then(
        () => true,
        () => false,
      ),
    true,
  );
  await apply(
    {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'server', namespace: NS, labels: { app: 'server' } },
      spec: {
        nodeName: second.name,
        terminationGracePeriodSeconds: 1,
        containers: [
          {
            name: 'server',
            image: 'registry.k8s.io/e2e-test-images/agnhost:2.57',
            imagePullPolicy: 'IfNotPresent',
            args: ['netexec', '--http-port=8080', '--udp-port=8081'],
            readinessProbe: { httpGet: { path: '/healthz', port: 8080 }, periodSeconds: 1 },
          },
        ],
      },
    },
    service(
      'web',
      {},
      {
        ports: [
          { name: 'http', port: 80, targetPort: 8080, nodePort: HTTP },
          { name: 'udp', port: 81, targetPort: 8081, nodePort: UDP, protocol: 'UDP' },
        ],
      },
    ),
  );
  await us.kubectl('-n', NS, 'wait', '--for=condition=Ready', 'pod/server', '--timeout=120s');
});
after(async () => {
  await us.kubectl('delete', 'namespace', NS);
  await us.kubectl('delete', 'ciliumloadbalancerippool', 'lab');
});

describe('loadBalancer.mode dsr', () => {
  before(async () => {
    const status = await configure('routingMode=native', 'loadBalancer.mode=dsr');
    assert.match(status, /✔ Load balancer dsr /);
  });

  for (const [family, client, addressOf] of families) {
    test(`${family}: the backend sees the client at every address of the service`, async () => {
      for (const node of us.plan.nodes) {
        assert.equal(await overTcp(addressOf(node), HTTP), client, `TCP to ${node.name}`);
        assert.equal(await clientByUdp(addressOf(node), UDP), client, `UDP to ${node.name}`);
      }
      const address = await externalAddress('web', family);
      // The router spreads connections over the nodes.
      for (let time = 0; time < 6; time++) {
        assert.equal(await overTcp(address, 80), client);
        assert.equal(await clientByUdp(address, 81), client);
      }
    });

    test(`${family}: the answer comes from the backend’s node, in the name of the one that was asked`, async () => {
      const asked = addressOf(first);
      await using here = await heardFrom(first, asked, UDP);
      await using there = await heardFrom(second, asked, UDP);
      assert.equal(await clientByUdp(asked, UDP), client);
      assert.equal(await here.count(), 0);
      assert.ok((await there.count()) > 0);
    });

    test(`${family}: a datagram that the option makes too large is told, and comes in pieces`, async () => {
      const size = 1500 - (family === 'IPv4' ? 28 : 48);
      const words = 'x'.repeat(size - 'echo '.length);
      const heard = await overUdp(addressOf(first), UDP, `echo ${words}`);
      assert.equal(heard.at(-1), words, heard.map(each => each.slice(0, 20)).join());
      const [route] = JSON.parse(await run('ip', ['-j', 'route', 'get', addressOf(first)])) as [
        { readonly metrics?: readonly { readonly mtu?: number }[] },
      ];
      assert.equal(route.metrics?.[0]?.mtu, family === 'IPv4' ? 1492 : 1476);
    });
  }

  test('what one service says: snat; an address of one kind; who may not connect; what is wrong becomes an event', async () => {
    const [[, client]] = families;
    await apply(service('masked', { 'service.cilium.io/forwarding-mode': 'snat' }));
    await apply(service('narrow', { 'service.cilium.io/type': 'LoadBalancer' }));
    await apply(
      service(
        'denied',
        { 'service.cilium.io/src-ranges-policy': 'deny' },
        { loadBalancerSourceRanges: [`${client}/32`] },
      ),
    );
    await apply(service('wrong', { 'service.cilium.io/forwarding-mode': 'ipip' }));
    const nodePort = async (name: string): Promise<number> =>
      Number(await us.kubectl('-n', NS, 'get', 'service', name, '-o', 'jsonpath={.spec.ports[0].nodePort}'));
    const asked = first.address;
    await eventually('masked', async () => overTcp(asked, await nodePort('masked')), first.address);
    const narrow = await externalAddress('narrow', 'IPv4');
    await eventually('its load balancer’s address', () => overTcp(narrow, 80), client);
    assert.equal(await overTcp(asked, await nodePort('narrow')), 'ECONNREFUSED');
    const denied = await externalAddress('denied', 'IPv4');
    await eventually('its node port', async () => overTcp(asked, await nodePort('denied')), client);
    await eventually('the address is denied', () => overTcp(denied, 80), 'TimeoutError');
    await eventually(
      'event',
      async () => {
        const events = await us.kubectl(
          ...['-n', NS, 'get', 'events', '--field-selector', 'involvedObject.name=wrong'],
          ...['-o', 'jsonpath={.items[*].message}'],
        );
        return events.includes('found "ipip", expected dsr or snat');
      },
      true,
    );
    assert.equal(await overTcp(asked, await nodePort('wrong')), client);
  });
});

/** A connection that stays: asks by it, again and again, who the client is. */
function openConnection(address: string): { ask(): Promise<string>; close(): void } {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  let socket: Socket | undefined;
  return {
    async ask() {
      const question = get({ agent, host: address, port: HTTP, path: '/clientip', timeout: 5_000 });
      const [response] = (await once(question, 'response')) as [IncomingMessage];
      socket ??= response.socket;
      assert.equal(response.socket, socket, 'it is the same connection');
      return withoutPort(await text(response));
    },
    close: () => agent.destroy(),
  };
}

test('loadBalancer.mode hybrid: TCP keeps the client, UDP gets the node; connections of before go on', async () => {
  const connections = families.map(([, client, addressOf]) => ({
    client,
    ...openConnection(addressOf(first)),
  }));
  try {
    for (const { ask, client } of connections) assert.equal(await ask(), client);
    assert.match(await configure('routingMode=native', 'loadBalancer.mode=hybrid'), /Load balancer hybrid /);
    for (const [, client, addressOf] of families) {
      assert.equal(await overTcp(addressOf(first), HTTP), client);
      assert.equal(await clientByUdp(addressOf(first), UDP), addressOf(first));
    }
    for (const { ask, client } of connections) assert.equal(await ask(), client);

    await configure('routingMode=native', 'loadBalancer.mode=snat');
    for (const [, , addressOf] of families)
      assert.equal(await overTcp(addressOf(first), HTTP), addressOf(first));
    for (const { ask, client } of connections) assert.equal(await ask(), client);
  } finally {
    for (const { close } of connections) close();
  }
});

test('routingMode tunnel refuses it and says why', async () => {
  await assert.rejects(
    configure('routingMode=tunnel', 'loadBalancer.mode=dsr'),
    /loadBalancer\.mode: found dsr, expected snat, because routingMode is tunnel/,
  );
});

test('routingMode hybrid: where the path between the nodes is direct', async () => {
  await configure('routingMode=hybrid', 'loadBalancer.mode=dsr');
  for (const [, client, addressOf] of families) {
    assert.equal(await overTcp(addressOf(first), HTTP), client);
    assert.equal(await clientByUdp(addressOf(first), UDP), client);
  }
});
