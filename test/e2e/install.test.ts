/**
 * From nothing to a network and back, on a lab of its own whose nodes have none: install, upgrade with a mesh's real
 * certificates, uninstall with pods running, install again
 * with other options. (A reboot of all nodes at once: lifecycle.test.ts.)
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import * as z from 'zod';
import { chartFolder } from '../../src/cli/helm.ts';
import { ensureBinaries } from '../../src/lab/binaries.ts';
import { freePort } from '../free-port.ts';
import {
  askUdp,
  eventually,
  isthmus,
  isthmusOk,
  labName,
  serverPod,
  serviceFor,
  udpQuestion,
} from './mesh.ts';

// Names of labs are short.
const lab = `${labName.slice(0, 9)}-i`;
const folder = mkdtempSync(join(tmpdir(), 'isthmus-install-'));
const kubeconfig = join(folder, 'kubeconfig');
const nodes = ['home-control-plane', 'home-worker'];
const waiting = ['--wait', '--wait-duration', '2m'];
const on = ['--context', 'home', '--kubeconfig', kubeconfig];
let binaries: { readonly kubectl: string; readonly helm: string };

/** Ports of this machine that lead to the worker: a NodePort each for TCP and UDP, and a pod's hostPorts. */
const nodePorts = { http: 32042, udp: 32043 };
const hostPorts = { http: 8042, udp: 8043 };
const machine = { nodePort: await freePort(), hostPort: await freePort() };
const extraPortMappings = [
  { hostPort: machine.nodePort, containerPort: nodePorts.http },
  { hostPort: machine.nodePort, containerPort: nodePorts.udp, protocol: 'UDP' },
  { hostPort: machine.hostPort, containerPort: hostPorts.http, listenAddress: '127.0.0.1' },
  { hostPort: machine.hostPort, containerPort: hostPorts.udp, listenAddress: '127.0.0.1', protocol: 'UDP' },
];

before(async () => {
  binaries = await ensureBinaries(['kubectl', 'helm'], { report: line => process.stderr.write(`${line}\n`) });
  const config = {
    kind: 'Cluster',
    apiVersion: 'kind.x-k8s.io/v1alpha4',
    name: 'home',
    networking: { disableDefaultCNI: true, podSubnet: '10.61.0.0/16', serviceSubnet: '172.20.61.0/24' },
    nodes: [{ role: 'control-plane' }, { role: 'worker', extraPortMappings }],
  };
  const file = join(folder, 'home.yaml');
  writeFileSync(file, JSON.stringify(config));
  await isthmusOk('lab', 'up', '--name', lab, '-f', file, '--no-install', '--kubeconfig', kubeconfig);
});

after(async () => {
  if (!process.env.ISTHMUS_TEST_KEEP) await isthmusOk('lab', 'down', '--name', lab);
  rmSync(folder, { recursive: true });
});

test('a node is given to pods when its datapath works, and not before', async () => {
  await kubectl('taint', 'nodes', '--all', 'node.cilium.io/agent-not-ready=true:NoExecute');
  await isthmusOk('install', ...on, '--set', 'cluster.id=61', ...waiting);
  // Kubernetes takes its own taint of a node away some moments after the node's condition says Ready.
  await eventually('nodes without taints of a missing network', async () => {
    for (const node of await nodeObjects()) {
      const condition = (type: string) => node.status.conditions.find(each => each.type === type);
      const keys = node.spec.taints.map(each => each.key);
      const found = keys.filter(key => /agent-not-ready|network-unavailable|not-ready/.test(key));
      assert.deepEqual(found, [], node.metadata.name);
      assert.equal(condition('Ready')?.status, 'True', node.metadata.name);
      assert.equal(condition('NetworkUnavailable')?.status, 'False', node.metadata.name);
    }
    return true;
  });
  await kubectl('-n', 'kube-system', 'rollout', 'status', 'deployment/coredns', '--timeout=60s');
});

test('pods of both nodes answer by a service', async () => {
  for (const node of nodes) await apply(serverPod(`server-${node}`, { node, labels: { app: 'server' } }));
  await apply(serviceFor('server'));
  await kubectl('wait', '--for=condition=Ready', '--timeout=60s', ...nodes.map(node => `pod/server-${node}`));
  await bothAnswer();
});

test('extraPortMappings lead from this machine to a NodePort and to a hostPort, by TCP and UDP', async () => {
  const service = JSON.parse(serviceFor('server', { name: 'mapped', type: 'NodePort' }));
  for (const port of service.spec.ports) port.nodePort = port.name === 'udp' ? nodePorts.udp : nodePorts.http;
  await apply(JSON.stringify(service));
  const pod = JSON.parse(serverPod('exposed', { node: 'home-worker' }));
  pod.spec.containers[0].ports = [
    { containerPort: 8080, hostPort: hostPorts.http },
    { containerPort: 8081, hostPort: hostPorts.udp, protocol: 'UDP' },
  ];
  await apply(JSON.stringify(pod));
  await kubectl('wait', '--for=condition=Ready', '--timeout=60s', 'pod/exposed');
  const ask = async (port: number): Promise<string> =>
    (await fetch(`http://127.0.0.1:${port}/hostname`, { signal: AbortSignal.timeout(3000) })).text();
  assert.match(await ask(machine.nodePort), /^server-home-/);
  assert.match(await askUdp('127.0.0.1', machine.nodePort), /^server-home-/);
  assert.equal(await ask(machine.hostPort), 'exposed');
  assert.equal(await askUdp('127.0.0.1', machine.hostPort), 'exposed');
  await kubectl('delete', 'pod/exposed', 'service/mapped');
});

test('upgrades, and helm template | kubectl apply, leave certificates and agents alone', async () => {
  await isthmusOk('clustermesh', 'enable', ...on, '--service-type', 'NodePort', '--wait');
  const [secrets, agents] = [await certificates(), await agentPods()];
  assert.ok(Object.keys(secrets).includes('isthmus-ca'), Object.keys(secrets).join());
  await isthmusOk('upgrade', ...on);
  await isthmusOk('upgrade', ...on, '--set', 'clustermesh.apiserver.service.annotations.of=this-test');
  await applyTemplate();
  await isthmusOk('status', ...on, ...waiting);
  assert.deepEqual(await certificates(), secrets);
  assert.deepEqual(await agentPods(), agents);
  await bothAnswer();
});

test('uninstall with pods running leaves the nodes as they were, also one without an agent', async () => {
  // The agent leaves the worker, its datapath stays: what a crash loop, or a changed nodeSelector, comes to.
  await kubectl('label', 'node', 'home-control-plane', 'agent=here');
  const nodeSelector = JSON.stringify({ spec: { template: { spec: { nodeSelector: { agent: 'here' } } } } });
  await kubectl('-n', 'kube-system', 'patch', 'daemonset', 'isthmus', '-p', nodeSelector);
  await kubectl('-n', 'kube-system', 'rollout', 'status', 'daemonset/isthmus', '--timeout=60s');
  await eventually('the worker has no agent', async () => !(await agentNodes()).includes('home-worker'));
  assert.match(await onNode('home-worker', 'ls /sys/class/net'), /isthmus_host/);

  const said = await isthmusOk('uninstall', ...on);
  assert.match(said, /Cleaning node home-worker by a pod: no agent runs there/);
  assert.doesNotMatch(said, /was not cleaned/);
  await nodesAreClean();
  const pods = await kubectl('-n', 'kube-system', 'get', 'pods', '-o', 'name');
  assert.doesNotMatch(pods, /isthmus/);
});

test('installed again with other options, the same pods are connected', async () => {
  const options = ['cluster.id=61', 'socketLB.hostNamespaceOnly=true', 'tunnelUnpack=device'];
  await isthmusOk('install', ...on, ...options.flatMap(each => ['--set', each]), ...waiting);
  await bothAnswer();
  await apply(serverPod('later', { node: 'home-worker' }));
  await kubectl('wait', '--for=condition=Ready', '--timeout=60s', 'pod/later');
  const said = await kubectl(
    ...['-n', 'kube-system', 'exec', 'ds/isthmus', '--', 'isthmus', 'agent', 'status'],
  );
  assert.match(said, /^Services +at the socket for the node, packet by packet for pods$/m);
  assert.match(said, /^Tunnel +unpacked by the device$/m);
});

test('with socketLB.hostNamespaceOnly pods reach services packet by packet', async () => {
  for (const name of ['server', 'later', 'nobody']) await apply(serviceFor(name, { type: 'NodePort' }));
  const clusterIp = (name: string) => field(`service/${name}`, '.spec.clusterIP');
  const server = await clusterIp('server');
  const inPod = (line: string, pod = 'later') => kubectl('exec', pod, '--', 'bash', '-c', line);

  // The pod's own kernel socket is connected to the service, not to a backend.
  const sockets = await inPod(`exec 3<>/dev/tcp/${server}/80; cat /proc/net/tcp`);
  const hex = server.split('.').map(each => Number(each).toString(16).padStart(2, '0'));
  assert.match(sockets.toLowerCase(), new RegExp(` ${hex.reverse().join('')}:0050 01 `));

  const http = `curl -sS -m 10 http://server/hostname; echo;`;
  const both = nodes.map(node => `server-${node}`).sort();
  const ask = async (line: string) => [...new Set((await inPod(line)).trim().split('\n'))].sort();
  assert.deepEqual(await ask(`for i in $(seq 20); do ${http} done`), both);
  const [tcpPort, udpPort] = ['http', 'udp'].map(name => `.spec.ports[?(@.name=="${name}")].nodePort`);
  for (const node of nodes) {
    const ip = await field(`node/${node}`, '.status.addresses[?(@.type=="InternalIP")].address');
    const port = await field('service/server', tcpPort!);
    const answers = await ask(
      `for i in $(seq 20); do curl -sS -m 10 http://${ip}:${port}/hostname; echo; done`,
    );
    assert.deepEqual(answers, both, `NodePort of ${node}`);
    const udp = await field('service/server', udpPort!);
    assert.match(await inPod(udpQuestion(ip, udp)), /^server-home-/);
    assert.match(await askUdp(ip, Number(udp)), /^server-home-/, 'from this machine');
  }
  assert.match(await inPod(udpQuestion(server, 81)), /^server-home-/);
  const found = await inPod('dig +tries=1 +time=3 +short kubernetes.default.svc.cluster.local');
  assert.equal(found.trim(), await field('service/kubernetes', '.spec.clusterIP', 'default'));
  const itself = await clusterIp('later');
  assert.equal(await inPod(`curl -sS -m 3 http://${itself}/hostname`), 'later', 'itself');
  // By its address: CoreDNS may still hold a connection to the API server from before the uninstall.
  const nobody = await clusterIp('nobody');
  const refused = await inPod(
    `nc -zv -w 10 ${nobody} 80 2>&1; dig +tries=1 +time=9 -p 81 @${nobody} . ; true`,
  );
  assert.match(refused, /port 80 .*Connection refused/);
  assert.match(refused, /#81: connection refused/);
  // Processes of the node are served at their sockets all the same.
  const port = await field('service/server', tcpPort!);
  assert.match(await onNode('home-worker', `curl -sS -m 3 http://127.0.0.1:${port}/hostname`), /^server-/);
});

test('helm uninstall alone cleans the nodes, too', async () => {
  await run(binaries.helm, 'uninstall', 'isthmus', '-n', 'kube-system', '--kubeconfig', kubeconfig);
  await nodesAreClean();
  const { code, stderr } = await isthmus('status', ...on);
  assert.equal(code, 1);
  assert.match(stderr, /Isthmus is not installed in namespace kube-system/);
});

/** Nothing of ours but the devices of pods that still run, and what is known of them. */
async function nodesAreClean(): Promise<void> {
  for (const node of nodes) {
    const look =
      'ls -d /sys/class/net/isthmus_* /sys/fs/bpf/isthmus /etc/cni/net.d/*isthmus* /opt/cni/bin/isthmus-cni';
    await eventually(
      `${node} is clean`,
      async () => (await onNode(node, `${look} 2>/dev/null; true`)).trim() === '',
    );
    assert.doesNotMatch(await onNode(node, 'ip route'), /isthmus|10\.61\./, node);
  }
}

async function bothAnswer(): Promise<void> {
  await eventually('both pods answer', () => answers().then(found => found.size === 2), 60);
}

/** Who answers when a pod asks the service some times. */
async function answers(): Promise<Set<string>> {
  const line = 'for i in $(seq 1 12); do curl -sS -m 10 http://server/hostname; echo; done';
  const text = await kubectl('exec', `server-${nodes[1]}`, '--', 'sh', '-c', line);
  return new Set(text.split('\n').filter(Boolean));
}

async function applyTemplate(): Promise<void> {
  const values = await run(
    binaries.helm,
    'get',
    'values',
    'isthmus',
    '-n',
    'kube-system',
    '--kubeconfig',
    kubeconfig,
  );
  const file = join(folder, 'values.yaml');
  writeFileSync(file, values.replace(/^USER-SUPPLIED VALUES:\n/, ''));
  const manifest = await run(
    binaries.helm,
    ...['template', 'isthmus', chartFolder, '-n', 'kube-system', '-f', file, '--validate', '--is-upgrade'],
    ...['--kubeconfig', kubeconfig],
  );
  const path = join(folder, 'manifest.yaml');
  writeFileSync(path, manifest);
  await kubectl('apply', '--server-side', '--force-conflicts', '-f', path);
}

const Secrets = z.object({
  items: z.array(
    z.object({
      metadata: z.object({ name: z.string() }),
      data: z.record(z.string(), z.string()).default({}),
    }),
  ),
});

/** Every Secret but Helm's own records, with its content. */
async function certificates(): Promise<Record<string, Record<string, string>>> {
  const { items } = Secrets.parse(
    JSON.parse(await kubectl('-n', 'kube-system', 'get', 'secrets', '-o', 'json')),
  );
  const ours = items.filter(each => !each.metadata.name.startsWith('sh.helm.release.'));
  return Object.fromEntries(ours.map(each => [each.metadata.name, each.data]));
}

function agentNodes(): Promise<string> {
  const path = 'jsonpath={.items[*].spec.nodeName}';
  return kubectl('-n', 'kube-system', 'get', 'pods', '-l', 'k8s-app=isthmus', '-o', path);
}

async function agentPods(): Promise<string> {
  const path = 'jsonpath={.items[*].metadata.uid}';
  return kubectl('-n', 'kube-system', 'get', 'pods', '-l', 'k8s-app=isthmus', '-o', path);
}

const Nodes = z.object({
  items: z.array(
    z.object({
      metadata: z.object({ name: z.string() }),
      spec: z.object({ taints: z.array(z.object({ key: z.string() })).default([]) }),
      status: z.object({ conditions: z.array(z.object({ type: z.string(), status: z.string() })) }),
    }),
  ),
});

async function nodeObjects() {
  return Nodes.parse(JSON.parse(await kubectl('get', 'nodes', '-o', 'json'))).items;
}

function onNode(node: string, line: string): Promise<string> {
  return isthmusOk('lab', 'shell', '--name', lab, `home/${node}`, '--', 'sh', '-c', line);
}

function kubectl(...args: string[]): Promise<string> {
  return run(binaries.kubectl, '--kubeconfig', kubeconfig, ...args);
}

function field(object: string, path: string, namespace = 'default'): Promise<string> {
  return kubectl('-n', namespace, 'get', object, '-o', `jsonpath={${path}}`);
}

async function apply(manifest: string): Promise<void> {
  const path = join(folder, 'object.json');
  writeFileSync(path, manifest);
  await kubectl('apply', '-f', path);
}

async function run(file: string, ...args: string[]): Promise<string> {
  return (await promisify(execFile)(file, args, { maxBuffer: 64 << 20 })).stdout;
}
