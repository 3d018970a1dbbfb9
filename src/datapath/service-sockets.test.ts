/** What Kubernetes promises of services, with real sockets of pods and nodes. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { after, before, describe, it } from 'node:test';
import { endConnection } from '../agent/vanished-backends.ts';
import { format, parse } from './address.ts';
import { CONFIG_FLAG } from './object.ts';
import { destroySocket } from './socket-destroy.ts';
import {
  counted,
  createTestbed,
  inNetns,
  setIpcache,
  setService,
  type Testbed,
  type TestNode,
  wire,
} from './testbed.fixture.ts';

const AFFINITY = 1;
/** IPCACHE_POD_RANGE */
const POD_RANGE = 1;

let bed: Testbed;
before(async () => {
  bed = await createTestbed({ flags: CONFIG_FLAG.protectNodePorts });
  for (const node of bed.nodes)
    for (const pod of node.pods) {
      const server = bed.start(pod.netns, wire('serve', pod.ip, '80', '53'), node);
      await once(server.stdout!, 'data');
    }
});
after(() => bed?.[Symbol.asyncDispose]());

/** Pods of both nodes as backends of a port. */
const backends = (from: number, port: number) =>
  bed.nodes.flatMap((node, at) =>
    node.pods.map((pod, index) => ({ id: from + at * 2 + index, address: pod.ip, port })),
  );
/** What a process of a pod or node prints; its sockets are seen by the node's socket programs. */
const ask = async (node: TestNode, netns: string, ...command: string[]): Promise<string[]> =>
  (await bed.run(netns, wire(...command), node)).stdout.split('\n');
const backendsOf = (answers: readonly string[]): string[] => [
  ...new Set(answers.map(each => each.split(' ')[0]!)),
];

describe('session affinity at the socket', () => {
  const VIP = '10.96.1.1';
  before(() => {
    for (const node of bed.nodes)
      for (const [id, protocol, port] of [
        [100, 'tcp', 80],
        [101, 'udp', 53],
      ] as const) {
        const own = backends(id * 10, port);
        setService(node, {
          id,
          address: VIP,
          port,
          protocol,
          backends: own,
          flags: AFFINITY,
          affinityTimeout: 100,
        });
        for (const each of own)
          node.datapath.map('affinity_members').set({ service_id: id, backend_id: each.id }, { pad: 0 });
      }
  });

  it('all sockets of a pod go to one backend, also after the agent restarted', async () => {
    const node = bed.nodes[0];
    for (const { netns } of node.pods) {
      const seen = backendsOf(await ask(node, netns, 'tcp', VIP, '80', '16'));
      assert.equal(seen.length, 1, seen.join(' '));
      node.reload();
      assert.deepEqual(backendsOf(await ask(node, netns, 'tcp', VIP, '80', '4')), seen);
    }
  });

  it('datagrams too, connected or not', async () => {
    const node = bed.nodes[0];
    const { netns } = node.pods[0]!;
    const seen = new Set<string>();
    for (const connected of ['no', 'connected', 'no', 'connected', 'no'])
      for (const each of backendsOf(await ask(node, netns, 'udp', VIP, '53', connected))) seen.add(each);
    assert.equal(seen.size, 1);
  });
});

describe('externalTrafficPolicy Local', () => {
  const [LOCAL, TWO_SCOPES] = [8, 16];
  before(() => {
    const own = (at: number) => [{ id: 2000 + at, address: bed.nodes[at]!.pods[0]!.ip, port: 80 }];
    for (const [at, node] of bed.nodes.entries())
      for (const [id, port, owner] of [
        [200, 30_200, 1],
        [210, 30_210, 0],
      ] as const) {
        const backends = own(owner);
        setService(node, {
          id,
          address: '0.0.0.0',
          port,
          protocol: 'tcp',
          backends: at === owner ? backends : [],
          flags: LOCAL | TWO_SCOPES,
        });
        setService(node, { id: id + 1, address: '0.0.0.0', port, protocol: 'tcp', backends, scope: 1 });
      }
  });

  it('a process of another node is a client like any machine: its address is kept, and it is not answered where no backend is', async () => {
    const [node, other] = bed.nodes;
    const pod = other.pods[0]!;
    assert.deepEqual(await ask(node, node.netns, 'tcp', other.ip, '30200'), [
      `${pod.ip} ${node.ip} ${other.ip}`,
    ]);
    assert.deepEqual(await ask(node, node.netns, 'tcp', other.ip, '30210'), ['ETIMEDOUT']);
  });

  it('a pod of another node is a client like any machine, too', async () => {
    const [node, other] = bed.nodes;
    const client = node.pods[0]!.netns;
    assert.deepEqual(backendsOf(await ask(node, client, 'tcp', other.ip, '30200')), [other.pods[0]!.ip]);
    assert.deepEqual(await ask(node, client, 'tcp', other.ip, '30210'), ['ETIMEDOUT']);
  });

  it('at the own node all backends, also for pods', async () => {
    const [node, other] = bed.nodes;
    for (const at of [node.ip, '127.0.0.1'])
      assert.deepEqual(backendsOf(await ask(node, node.netns, 'tcp', at, '30200')), [other.pods[0]!.ip]);
    assert.deepEqual(backendsOf(await ask(node, node.pods[0]!.netns, 'tcp', node.ip, '30200')), [
      other.pods[0]!.ip,
    ]);
  });

  it('a node that speaks under its own address to a pod of another node is answered', async () => {
    const [node, other] = bed.nodes;
    const pod = other.pods[0]!;
    const before = counted(node, 'REASON_TO_STACK');
    const ping = await bed.run(node.netns, ['ping', '-c1', '-W2', '-I', node.ip, pod.ip]);
    assert.equal(ping.code, 0, ping.stdout);
    assert.ok(counted(node, 'REASON_TO_STACK') > before, 'the answer came by the tunnel');
  });
});

describe('a NodePort is taken', () => {
  const bind = async (netns: string, kind: string, address: string, port: number): Promise<string> =>
    (await ask(bed.nodes[0], netns, 'bind', kind, address, String(port)))[0]!;
  before(() => {
    const node = bed.nodes[0];
    setService(node, { id: 300, address: '0.0.0.0', port: 30_300, protocol: 'tcp', backends: [] });
    setService(node, { id: 301, address: '::', port: 30_301, protocol: 'udp', backends: [] });
    setService(node, { id: 302, address: '10.96.3.2', port: 30_302, protocol: 'tcp', backends: [] });
  });

  it('for the processes of the node, by protocol and family', async () => {
    const { netns, ip } = bed.nodes[0];
    for (const address of ['0.0.0.0', '127.0.0.1', ip, '::'])
      assert.equal(await bind(netns, 'tcp', address, 30_300), 'EADDRINUSE', address);
    assert.equal(await bind(netns, 'udp', '0.0.0.0', 30_300), 'bound');
    assert.equal(await bind(netns, 'tcp', '::1', 30_300), 'bound');
    for (const address of ['::', '::1'])
      assert.equal(await bind(netns, 'udp', address, 30_301), 'EADDRINUSE');
    assert.equal(await bind(netns, 'udp', '0.0.0.0', 30_301), 'bound');
  });

  it('not for pods, not other ports, not ports of a ClusterIP', async () => {
    const node = bed.nodes[0];
    assert.equal(await bind(node.pods[0]!.netns, 'tcp', '0.0.0.0', 30_300), 'bound');
    for (const port of [0, 30_302, 30_303])
      assert.equal(await bind(node.netns, 'tcp', '0.0.0.0', port), 'bound');
  });
});

describe('a backend that is gone', () => {
  const ADDRESS = '10.96.4.1';
  /** Pod b of the other node: first there, then not. */
  const vanish = (gone: boolean): void => {
    const [node, other] = bed.nodes;
    const pod = other.pods[1]!;
    const range = { identity: 3, tunnel: parse(other.ip), encrypt_key: 0, flags: POD_RANGE };
    node.datapath
      .map('ipcache')
      .set({ prefixlen: 32 + 96 + 24, cluster_id: 0, addr: parse('10.1.2.0') }, range);
    if (gone)
      node.datapath.map('ipcache').delete({ prefixlen: 32 + 128, cluster_id: 0, addr: parse(pod.ip) });
    else setIpcache(node, `${pod.ip}/32`, pod.identity, other.ip);
  };
  /** A process that holds a connection, and the lines it prints. */
  const hold = async (netns: string, kind: string, port: number) => {
    const child = bed.start(netns, wire('hold', kind, ADDRESS, String(port)), bed.nodes[0]);
    const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
    assert.equal((await lines.next()).value, 'connected');
    const exited = once(child, 'exit');
    const ended = async (): Promise<string> => {
      const { value } = await lines.next();
      await exited;
      return value as string;
    };
    return { ended };
  };
  before(async () => {
    const [node, other] = bed.nodes;
    const pod = other.pods[1]!;
    const server = bed.start(pod.netns, wire('listen', '90'), other);
    await once(server.stdout!, 'data');
    for (const [id, protocol] of [
      [400, 'tcp'],
      [401, 'udp'],
    ] as const)
      setService(node, {
        id,
        address: ADDRESS,
        port: 90,
        protocol,
        backends: [{ id: id * 10, address: pod.ip, port: 90 }],
      });
  });

  it('connections of pods are reset at once, datagram sockets are told, and nothing else is touched', async () => {
    const node = bed.nodes[0];
    const { netns } = node.pods[0]!;
    vanish(false);
    const [tcp, udp] = [await hold(netns, 'tcp', 90), await hold(netns, 'udp', 90)];
    assert.deepEqual(node.datapath.vanishedSockets(), [], 'it is there');
    vanish(true);
    const found = node.datapath.vanishedSockets();
    assert.deepEqual(
      found.map(each => [format(each.local), format(each.remote), each.remote_port, each.proto]).sort(),
      [
        [node.pods[0]!.ip, bed.nodes[1].pods[1]!.ip, 90, 17],
        [node.pods[0]!.ip, bed.nodes[1].pods[1]!.ip, 90, 6],
      ],
    );
    for (const each of found) inNetns(node.netns, () => endConnection(node.datapath, each));
    assert.deepEqual([await tcp.ended(), await udp.ended()], ['ECONNRESET', 'ECONNREFUSED']);
    assert.deepEqual(node.datapath.vanishedSockets(), [], 'a socket that has ended is forgotten');
  });

  it('sockets of the node itself are destroyed', async () => {
    const node = bed.nodes[0];
    vanish(false);
    const [tcp, udp] = [await hold(node.netns, 'tcp', 90), await hold(node.netns, 'udp', 90)];
    vanish(true);
    const found = node.datapath.vanishedSockets();
    assert.equal(found.length, 2);
    for (const each of found) inNetns(node.netns, () => endConnection(node.datapath, each));
    assert.equal(await tcp.ended(), 'ECONNABORTED');
    assert.ok(await udp.ended());
    // Asked for again, in a namespace that does not have it.
    for (const each of found) assert.equal(destroySocket(each), false);
  });
});
