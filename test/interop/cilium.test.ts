/** A cluster of Isthmus (us) and one of real Cilium (eu) as one mesh: what each knows of the other, and packets. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import * as z from 'zod';
import { allocationRange, clusterOf } from '../../src/api/identity-number.ts';
import { installedValues } from '../../src/cli/helm.ts';
import { upgradeIsthmus } from '../../src/cli/install.ts';
import { reportKey } from '../../src/clustermesh/layout.ts';
import { readCertificate } from '../../src/clustermesh/x509.ts';
import {
  answered,
  answersCome,
  type ClusterOfTest,
  eventually,
  isthmus,
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
import { certificateOf, type MeshEtcd, meshEtcd } from '../e2e/mesh-etcd.ts';
import { bothReady, type CiliumAgent, ciliumAgents, ipcacheAt, remoteAt } from './cilium-agent.ts';

let us: ClusterOfTest;
let eu: ClusterOfTest;
let ns: Awaited<ReturnType<typeof namespace>>;
let agents: CiliumAgent[];
let etcds: Readonly<Record<'us' | 'eu', MeshEtcd>>;
let numbers: { readonly us: number; readonly eu: number; readonly max: 255 | 511 };

before(async () => {
  ({ us, eu } = await mesh());
  ns = await namespace('interop');
  agents = await ciliumAgents(eu);
  etcds = { us: await meshEtcd(us, 32_379), eu: await meshEtcd(eu, 32_380) };
  numbers = await numbersOf(us);
  for (const each of [us, eu]) {
    for (const name of ['client', 'stranger'])
      await each.apply(serverPod(name, { node: `${each.name}-control-plane` }), ns.name);
    await each.apply(deployment(each.name), ns.name);
    await each.apply(serviceFor('web', { annotations: { 'service.cilium.io/global': 'true' } }), ns.name);
    await ready(each, ns.name, 'client', 'stranger');
    await rolledOut(each);
  }
});
after(async () => {
  for (const each of Object.values(etcds ?? {})) await each[Symbol.asyncDispose]();
  await ns?.[Symbol.asyncDispose]();
});

test('both say that the other is ready', async () => {
  await bothReady(agents);
  const said = await agents[0]!.dbg('status', '--all-clusters');
  assert.match(said, /ClusterMesh:\s+1\/1 remote clusters ready/);
  assert.match(said, /us: ready, 2 nodes, \d+ endpoints, \d+ identities, 1 services/);
  assert.match(said, /nodes=true, endpoints=true, identities=true, services=true/);
  for (const agent of agents) {
    const remote = await remoteAt(agent, 'us');
    assert.equal(remote?.config['cluster-id'], numbers.us);
    assert.equal(remote.config.kvstoremesh, true, 'Cilium reads the copy that its kvstoremesh made of ours');
  }
  const status = await isthmus('clustermesh', 'status', '--context', 'us');
  assert.equal(status.code, 0, status.stdout + status.stderr);
  assert.match(status.stdout, /eu: 2\/2 configured, 2\/2 connected/);
});

test('no value that Cilium wrote was refused', async () => {
  for (const remote of await isthmusRemotes()) assert.deepEqual(remote.warnings, []);
});

test('every pod of Isthmus is in the ipcache of every agent of Cilium, with its identity and node', async () => {
  for (const pod of await podsOf(us))
    for (const agent of agents)
      await eventually(`${pod.address} on ${agent.node}`, async () => {
        const found = (await ipcacheAt(agent)).get(`${pod.address}/32`);
        assert.deepEqual(found, { identity: pod.identity, tunnel: pod.nodeIp });
        return true;
      });
  const known = await agents[0]!.dbg('identity', 'list', '-o', 'json');
  for (const { identity } of await podsOf(us)) {
    const { min, max } = allocationRange(numbers.us, numbers.max);
    assert.ok(identity >= min && identity <= max, `${identity} is of cluster ID ${numbers.us}`);
    assert.match(known, new RegExp(`"id": ${identity},`));
  }
});

test('every pod of Cilium is in the ipcache of every agent of Isthmus, with its identity and node', async () => {
  for (const node of ['us-control-plane', 'us-worker'])
    for (const pod of await podsOf(eu))
      await eventually(`${pod.address} on ${node}`, async () => {
        const found = (await isthmusIpcache(node)).get(`${pod.address}/128`);
        assert.deepEqual(found, { identity: pod.identity, tunnel: pod.nodeIp });
        assert.equal(clusterOf(pod.identity, numbers.max), numbers.eu);
        return true;
      });
});

test('pods reach pods from every node to every node, by TCP, UDP and in full packets', async () => {
  for (const [from, to] of both()) {
    const addresses = [...(await addressesOf(to, 'web')), await podAddress(to, ns.name, 'client')];
    const web = (await to.kubectl('-n', ns.name, 'get', 'pods', '-l', 'app=web', '-o', 'name')).trim();
    for (const address of addresses)
      for (const pod of [
        'client',
        (await from.kubectl('-n', ns.name, 'get', 'pods', '-l', 'app=web', '-o', 'name')).trim(),
      ]) {
        const name = await from.sh(ns.name, pod, `curl -s -m 5 http://${address}:8080/hostname`);
        assert.ok(
          name === 'client' || name === `${to.name}-web`,
          `${from.name} ${pod} → ${address}: ${name}`,
        );
        const udp = await from.sh(ns.name, pod, udpQuestion(address, 8081));
        assert.equal(udp.trim(), name);
      }
    // More than fits one packet: a packet that is too large for the tunnel would be lost without a word.
    await from.sh(
      ns.name,
      'client',
      'head -c 300000 /dev/urandom > /tmp/large && md5sum < /tmp/large > /tmp/sum',
    );
    const sum = await from.sh(ns.name, 'client', 'cat /tmp/sum');
    await from.sh(ns.name, 'client', `curl -s -m 10 -F file=@/tmp/large http://${addresses[0]}:8080/upload`);
    assert.equal(await to.sh(ns.name, web, 'cat /uploads/* | md5sum; rm -f /uploads/*'), sum);
  }
});

test('the sender’s identity is in the VNI, and the receiver has it in its connection tracking', async () => {
  const identity = async (cluster: ClusterOfTest, pod: string): Promise<number> =>
    (await podsOf(cluster)).find(each => each.name === pod)!.identity;
  for (const [from, to] of both()) {
    const [target] = await addressesOf(to, 'web');
    const client = await podAddress(from, ns.name, 'client');
    const vni = await sniff(client, target!, () =>
      from.sh(ns.name, 'client', `curl -s -m 5 http://${target}:8080/hostname`),
    );
    assert.equal(vni, await identity(from, 'client'), `${from.name} → ${to.name}`);
  }
  // Connections that are open as long as we look: closed ones are forgotten within seconds.
  await Promise.all(
    both().map(async ([from, to]) => {
      const [target] = await addressesOf(to, 'web');
      const client = await podAddress(from, ns.name, 'client');
      const open = from.trySh(ns.name, 'client', `sleep 40 | timeout 40 nc ${target} 8080`);
      assert.equal(await trackedSender(to, client, target!), await identity(from, 'client'));
      await open;
    }),
  );
});

test('a policy of Cilium lets in the pods of Isthmus that it names, and no other', async () => {
  const policy = JSON.stringify({
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumNetworkPolicy',
    metadata: { name: 'from-us' },
    spec: {
      endpointSelector: { matchLabels: { app: 'web' } },
      ingress: [
        { fromEndpoints: [{ matchLabels: { app: 'client', 'io.cilium.k8s.policy.cluster': 'us' } }] },
      ],
    },
  });
  const [target] = await addressesOf(eu, 'web');
  const ask = (from: ClusterOfTest, pod: string) =>
    from.trySh(ns.name, pod, `curl -s -m 2 http://${target}:8080/hostname`);
  assert.equal((await ask(us, 'stranger')).stdout, 'eu-web');
  await eu.apply(policy, ns.name);
  try {
    await eventually('the stranger is kept out', async () => (await ask(us, 'stranger')).code === 28);
    assert.equal((await ask(us, 'client')).stdout, 'eu-web');
    assert.equal((await ask(eu, 'client')).code, 28, 'the name of the cluster is part of the identity');
  } finally {
    await eu.kubectl('-n', ns.name, 'delete', 'ciliumnetworkpolicy', 'from-us');
  }
  await eventually('open again', async () => (await ask(us, 'stranger')).stdout === 'eu-web');
});

test('a global service answers from both, in both', async () => {
  await becomes(us, 'eu-web us-web');
  await becomes(eu, 'eu-web us-web');
});

test('affinity and shared hold in each cluster for itself', async () => {
  for (const [own, other] of both()) {
    const [here, there] = [`${own.name}-web`, `${other.name}-web`];
    await annotate(own, 'service.cilium.io/affinity=local');
    await becomes(own, here);
    await becomes(other, 'eu-web us-web');
    await annotate(own, 'service.cilium.io/affinity=remote');
    await becomes(own, there);
    await annotate(own, 'service.cilium.io/affinity-', 'service.cilium.io/shared=false');
    await becomes(own, 'eu-web us-web');
    await becomes(other, there);
    await annotate(own, 'service.cilium.io/shared-');
    await becomes(other, 'eu-web us-web');
  }
});

test('scaled to zero in one cluster, the other answers, both ways', async () => {
  for (const [own, other] of both()) {
    await annotate(own, 'service.cilium.io/affinity=local');
    await becomes(own, `${own.name}-web`);
    await scale(own, 0);
    await becomes(own, `${other.name}-web`);
    await becomes(other, `${other.name}-web`);
    await scale(own, 1);
    await becomes(own, `${own.name}-web`);
    await becomes(other, 'eu-web us-web');
    await annotate(own, 'service.cilium.io/affinity-');
  }
});

test('every key has a lease that lives, and the heartbeats go on', async () => {
  const beats = { us: '', eu: '' };
  const Listed = z.object({ kvs: z.array(z.object({ key: z.string(), lease: z.number().optional() })) });
  for (const name of ['us', 'eu'] as const) {
    const text = await etcds[name].admin('get', '--prefix', 'cilium/', '--keys-only', '-w', 'json');
    // Lease IDs are larger than what a number of JavaScript holds; only whether there is one matters here.
    const { kvs } = Listed.parse(JSON.parse(text));
    const bare = kvs.filter(each => !each.lease).map(each => Buffer.from(each.key, 'base64').toString());
    assert.deepEqual(bare, [], `keys of ${name} that no lease ends`);
    const leases = (await etcds[name].admin('lease', 'list'))
      .split('\n')
      .filter(each => /^[0-9a-f]+$/.test(each));
    for (const lease of leases) {
      const left = /remaining\((\d+)s\)/.exec(await etcds[name].admin('lease', 'timetolive', lease))?.[1];
      assert.ok(Number(left) > 0, `lease ${lease} of ${name} has ${left} s`);
    }
    beats[name] = await heartbeatOf(name);
  }
  for (const name of ['us', 'eu'] as const)
    await eventually(`${name} beats again`, async () => (await heartbeatOf(name)) !== beats[name], 90);
  await bothReady(agents);
});

test('each is let in under the name that its certificate has: remote, and remote-<cluster>', async () => {
  const ours = async (): Promise<string> => {
    const { cert } = await certificateOf(us, 'clustermesh-apiserver-remote-cert');
    return (await readCertificate(cert)).commonName;
  };
  const { cert } = await certificateOf(eu, 'clustermesh-apiserver-remote-cert');
  assert.equal((await readCertificate(cert)).commonName, 'remote-eu');
  assert.equal(await ours(), 'remote');
  await bothReady(agents);
  const mode = (value: string) =>
    isthmusOk('upgrade', '--context', 'us', '--set', `clustermesh.apiserver.tls.authMode=${value}`);
  await mode('cluster');
  await eventually('a certificate of our own', async () => (await ours()) === 'remote-us', 60);
  // Now nobody needs the common user. Connections that are open stay, so both sides make new ones.
  for (const each of Object.values(etcds)) await each.admin('user', 'delete', 'remote');
  const system = ['-n', 'kube-system'];
  await us.kubectl(...system, 'rollout', 'restart', 'daemonset/isthmus');
  await us.kubectl(...system, 'rollout', 'status', 'daemonset/isthmus', '--timeout=240s');
  const kvstoremesh = ['deployment/clustermesh-apiserver', '-c', 'kvstoremesh', '--', 'bash', '-c', 'kill 1'];
  await eu.kubectl(...system, 'exec', ...kvstoremesh);
  await bothReady(agents);
  await becomes(us, 'eu-web us-web');
  for (const each of Object.values(etcds)) {
    await each.admin('user', 'add', 'remote', '--no-password');
    await each.admin('user', 'grant-role', 'remote', 'remote');
  }
  await mode('migration');
  await eventually('the common one again', async () => (await ours()) === 'remote', 60);
});

test('a new etcd on either side is read anew, and no request is lost meanwhile', async () => {
  for (const [own, other] of both()) {
    const line =
      'for i in $(seq 60); do curl -s -m 2 http://web/hostname || printf failed; echo; sleep 0.2; done';
    const [asked] = await Promise.all([
      other.sh(ns.name, 'client', line),
      own.kubectl('-n', 'kube-system', 'delete', 'pod', '-l', 'k8s-app=clustermesh-apiserver'),
    ]);
    assert.deepEqual([...new Set(asked.trim().split('\n'))].sort(), ['eu-web', 'us-web']);
    await own.kubectl(
      '-n',
      'kube-system',
      'rollout',
      'status',
      'deployment/clustermesh-apiserver',
      '--timeout=120s',
    );
    await bothReady(agents);
    await scale(own, 0);
    await becomes(other, `${other.name}-web`);
    await scale(own, 1);
    await becomes(other, 'eu-web us-web');
  }
});

test('agents of Cilium read the copy that our mirror keeps of us, in place of what its kvstoremesh kept', async () => {
  const system = ['-n', 'kube-system'];
  const rollout = [...system, 'rollout', 'status', 'deployment/clustermesh-apiserver', '--timeout=240s'];
  await eu.apply(JSON.stringify(mirrorConfig()), 'kube-system');
  try {
    const patch = JSON.stringify(await mirrorInstead());
    await eu.kubectl(...system, 'patch', 'deployment', 'clustermesh-apiserver', '--patch', patch);
    await eu.kubectl(...rollout);
    const key = reportKey('us');
    const copied = async (): Promise<string> => etcds.eu.admin('get', '--print-value-only', key);
    await eventually('the copy is ours', async () => /"state":"ready"/.test(await copied()), 60);
    await bothReady(agents, 180);
    for (const agent of agents)
      for (const pod of await podsOf(us))
        await eventually(`${pod.address} on ${agent.node}`, async () => {
          const found = (await ipcacheAt(agent)).get(`${pod.address}/32`);
          assert.deepEqual(found, { identity: pod.identity, tunnel: pod.nodeIp });
          return true;
        });
    for (const [from, to] of both()) {
      const [address] = await addressesOf(to, 'web');
      assert.equal(
        await from.sh(ns.name, 'client', `curl -s -m 5 http://${address}:8080/hostname`),
        `${to.name}-web`,
      );
    }
    await annotate(eu, 'service.cilium.io/affinity=local');
    await becomes(eu, 'eu-web', 60);
    await scale(eu, 0);
    await becomes(eu, 'us-web');
    await scale(us, 0);
    await becomes(eu, 'failed');
    await scale(us, 1);
    await becomes(eu, 'us-web');
    await scale(eu, 1);
    await becomes(eu, 'eu-web');
    await annotate(eu, 'service.cilium.io/affinity-');
    await becomes(eu, 'eu-web us-web');
  } finally {
    await eu.tryKubectl(...system, 'rollout', 'undo', 'deployment/clustermesh-apiserver');
    await eu.tryKubectl(...system, 'delete', 'configmap', 'isthmus-config');
  }
  await eu.kubectl(...rollout);
  await bothReady(agents, 180);
  await becomes(eu, 'eu-web us-web', 60);
});

test('Isthmus leaves the mesh: Cilium keeps nothing of it; it comes back, and all is there', async () => {
  const addresses = (await podsOf(us)).map(each => each.address);
  const cluster = { context: 'isthmus-us', kubeconfig: process.env.KUBECONFIG, namespace: 'kube-system' };
  const declared = await installedValues({ cluster, report: line => console.error(line) });
  await isthmusOk('clustermesh', 'disable', '--context', 'us');
  for (const agent of agents)
    await eventually(
      `nothing of us on ${agent.node}`,
      async () => {
        const prefixes = [...(await ipcacheAt(agent)).keys()];
        const left = prefixes.filter(
          each => each.startsWith('10.1.') || addresses.includes(each.split('/')[0]!),
        );
        assert.deepEqual(left, []);
        assert.doesNotMatch(await agent.dbg('bpf', 'lb', 'list'), / 10\.1\./);
        assert.doesNotMatch(await agent.dbg('identity', 'list'), /policy\.cluster=us/);
        assert.doesNotMatch(await agent.dbg('node', 'list'), /us-worker/);
        return true;
      },
      60,
    );
  assert.equal(await answered(eu, ns.name, 'client'), 'eu-web');
  // To come back is to be declared again: `disable` has emptied the list of clusters.
  await upgradeIsthmus({ cluster, values: { document: declared }, report: () => undefined });
  await bothReady(agents, 180);
  await becomes(eu, 'eu-web us-web', 60);
  const known = new Set((await ipcacheAt(agents[0]!)).keys());
  for (const { address } of await podsOf(us)) assert.ok(known.has(`${address}/32`), address);
});

test('a cluster switched off in the values is forgotten by Isthmus, and learned again', async () => {
  const switched = (on: boolean) =>
    isthmusOk('upgrade', '--context', 'us', '--set', `clustermesh.config.clusters.eu.enabled=${on}`);
  await switched(false);
  for (const node of ['us-control-plane', 'us-worker'])
    await eventually(
      `nothing of eu on ${node}`,
      async () => {
        const left = [...(await isthmusIpcache(node)).keys()].filter(each =>
          /^10\.2\.|^172\.\d+\.2\./.test(each),
        );
        assert.deepEqual(left, []);
        return true;
      },
      120,
    );
  assert.equal(await answered(us, ns.name, 'client'), 'us-web');
  await switched(true);
  await bothReady(agents, 180);
  await becomes(us, 'eu-web us-web', 60);
});

/** What our mirror reads of the cluster that it is in, where our chart is not. */
const mirrorConfig = () => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name: 'isthmus-config' },
  data: {
    'cluster-name': 'eu',
    'cluster-id': String(numbers.eu),
    'max-connected-clusters': String(numbers.max),
  },
});

/** A change of Cilium's clustermesh-apiserver: the container of its kvstoremesh runs our mirror, on the same volumes. */
async function mirrorInstead() {
  const image = await us.kubectl(
    ...['-n', 'kube-system', 'get', 'deployment', 'clustermesh-apiserver', '-o'],
    'jsonpath={.spec.template.spec.containers[?(@.name=="apiserver")].image}',
  );
  const container = {
    name: 'kvstoremesh',
    image,
    imagePullPolicy: 'IfNotPresent',
    command: ['/usr/bin/node', '/isthmus/dist/clustermesh-apiserver.mjs', 'kvstoremesh'],
    args: null,
    env: [{ name: 'POD_NAME', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } }],
    volumeMounts: [
      { name: 'isthmus-config', mountPath: '/etc/isthmus/config' },
      { name: 'etcd-admin-client', mountPath: '/etc/isthmus/admin-cert' },
    ],
  };
  const volumes = [{ name: 'isthmus-config', configMap: { name: 'isthmus-config' } }];
  return { spec: { template: { spec: { containers: [container], volumes } } } };
}

const both = (): readonly (readonly [ClusterOfTest, ClusterOfTest])[] => [
  [us, eu],
  [eu, us],
];

const becomes = (from: ClusterOfTest, expected: string, seconds = 20): Promise<true> =>
  answersCome(from, ns.name, 'client', expected, { seconds });

const annotate = (cluster: ClusterOfTest, ...pairs: string[]) =>
  cluster.kubectl('-n', ns.name, 'annotate', '--overwrite', 'service', 'web', ...pairs);

async function scale(cluster: ClusterOfTest, replicas: number): Promise<void> {
  await cluster.kubectl('-n', ns.name, 'scale', 'deployment', 'web', `--replicas=${replicas}`);
  if (replicas) await rolledOut(cluster);
}

async function rolledOut(cluster: ClusterOfTest): Promise<void> {
  await cluster.kubectl('-n', ns.name, 'rollout', 'status', 'deployment/web', '--timeout=120s');
}

/** The pod of a serverPod, named CLUSTER-web by itself, kept running on the worker. */
function deployment(cluster: string): string {
  const Pod = z.looseObject({
    metadata: z.looseObject({ labels: z.record(z.string(), z.string()) }),
    spec: z.looseObject({}),
  });
  const pod = Pod.parse(JSON.parse(serverPod('web', { labels: { app: 'web' } })));
  return JSON.stringify({
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'web' },
    spec: {
      selector: { matchLabels: { app: 'web' } },
      template: {
        metadata: { labels: pod.metadata.labels },
        spec: {
          ...pod.spec,
          hostname: `${cluster}-web`,
          nodeSelector: { 'kubernetes.io/hostname': `${cluster}-worker` },
        },
      },
    },
  });
}

const Remote = z.object({
  name: z.string(),
  ready: z.boolean(),
  /** Values refused are among them. */
  warnings: z.array(z.string()),
});

/** What every agent of Isthmus knows of eu. */
async function isthmusRemotes(): Promise<z.infer<typeof Remote>[]> {
  const { items } = await us.json(
    z.object({ items: z.array(z.object({ metadata: z.object({ name: z.string() }) })) }),
    ...['-n', 'kube-system', 'get', 'pods', '-l', 'k8s-app=isthmus'],
  );
  return Promise.all(
    items.map(async ({ metadata }) => {
      const command = ['isthmus', 'agent', 'status', '-o', 'json'];
      const text = await us.kubectl('-n', 'kube-system', 'exec', metadata.name, '--', ...command);
      const { clusters } = z.object({ clusters: z.array(Remote) }).parse(JSON.parse(text));
      const found = clusters.find(each => each.name === 'eu');
      if (!found) throw new Error(`${metadata.name} knows no eu`);
      return found;
    }),
  );
}

interface PodOfTest {
  readonly name: string;
  readonly address: string;
  readonly nodeIp: string;
  readonly identity: number;
}

/** The pods of the test's namespace that run, as the cluster itself has them. */
async function podsOf(cluster: ClusterOfTest): Promise<PodOfTest[]> {
  const Endpoints = z.object({
    items: z.array(
      z.object({
        metadata: z.object({ name: z.string() }),
        status: z.object({
          identity: z.object({ id: z.number() }),
          networking: z.object({
            node: z.string(),
            addressing: z.array(z.object({ ipv4: z.string() })),
          }),
        }),
      }),
    ),
  });
  const { items } = await cluster.json(Endpoints, '-n', ns.name, 'get', 'ciliumendpoints');
  return items.map(({ metadata, status }) => ({
    name: metadata.name,
    address: status.networking.addressing[0]!.ipv4,
    nodeIp: status.networking.node,
    identity: status.identity.id,
  }));
}

async function addressesOf(cluster: ClusterOfTest, app: string): Promise<string[]> {
  const path = 'jsonpath={.items[*].status.podIP}';
  return (await cluster.kubectl('-n', ns.name, 'get', 'pods', '-l', `app=${app}`, '-o', path)).split(' ');
}

/** Prefix (of 128 bits) → identity and node, as the datapath of a node of us has it. */
async function isthmusIpcache(node: string) {
  const Rows = z.array(
    z.object({
      key: z.object({ prefixlen: z.number(), addr: z.string() }),
      value: z.object({ identity: z.number(), tunnel: z.string() }),
    }),
  );
  const text = await isthmusOk('bpf', 'ipcache', 'list', '--context', 'us', '--node', node, '-o', 'json');
  // The cluster ID and its padding are the first 32 bits of the key.
  return new Map(
    Rows.parse(JSON.parse(text)).map(({ key, value }) => [`${key.addr}/${key.prefixlen - 32}`, value]),
  );
}

/** Identity of the sender that the connection tracking of the receiver's cluster has. */
async function trackedSender(cluster: ClusterOfTest, from: string, to: string): Promise<number> {
  return eventually(`${from} in the connection tracking of ${cluster.name}`, async () => {
    if (cluster === eu) {
      for (const agent of agents) {
        const rows = await agent.dbg('bpf', 'ct', 'list', 'global');
        const row = rows
          .split('\n')
          .find(
            each => each.startsWith('TCP IN') && each.includes(`${from}:`) && each.includes(`-> ${to}:8080`),
          );
        const id = /SourceSecurityID=(\d+)/.exec(row ?? '')?.[1];
        if (id) return Number(id);
      }
      return undefined;
    }
    const Flows = z.array(
      z.object({
        node: z.string(),
        key: z.object({ saddr: z.string(), daddr: z.string() }),
        value: z.object({ identity: z.number() }),
      }),
    );
    const text = await isthmusOk('bpf', 'ct', 'list', '--context', 'us', '-o', 'json');
    // A row's key has one direction of the flow, either one.
    const ends = (key: { saddr: string; daddr: string }) => [key.saddr, key.daddr].sort().join();
    return Flows.parse(JSON.parse(text)).find(
      ({ node, key }) => node === 'us-worker' && ends(key) === ends({ saddr: from, daddr: to }),
    )?.value.identity;
  });
}

/** The VNI of the first packet between two pods that passes the router between the clusters; sends until one does. */
async function sniff(from: string, to: string, send: () => Promise<unknown>): Promise<number> {
  const filter = ['-lni', 'any', 'udp', 'port', '8472'];
  const tcpdump = spawn('ip', ['netns', 'exec', `isthmus.${labName}.router`, 'tcpdump', ...filter], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  let outer: string | undefined;
  let found: string | undefined;
  createInterface(tcpdump.stdout).on('line', line => {
    outer = /(?:instance|vni) (\d+)/.exec(line)?.[1] ?? outer;
    if (line.includes(`IP ${from}.`) && line.includes(`> ${to}.8080`)) found ??= outer;
  });
  try {
    const vni = await eventually(`a packet from ${from} to ${to}`, async () => {
      await send();
      return found;
    });
    return Number(vni);
  } finally {
    tcpdump.kill();
    await once(tcpdump, 'exit');
  }
}

async function numbersOf(cluster: ClusterOfTest): Promise<typeof numbers> {
  const Data = z.object({ data: z.record(z.string(), z.string()) });
  const own = (await cluster.json(Data, '-n', 'kube-system', 'get', 'configmap', 'isthmus-config')).data;
  const other = (await eu.json(Data, '-n', 'kube-system', 'get', 'configmap', 'cilium-config')).data;
  return {
    us: Number(own['cluster-id']),
    eu: Number(other['cluster-id']),
    max: own['max-connected-clusters'] === '511' ? 511 : 255,
  };
}

const heartbeatOf = (name: 'us' | 'eu'): Promise<string> =>
  etcds[name].admin('get', '--print-value-only', 'cilium/.heartbeat');
