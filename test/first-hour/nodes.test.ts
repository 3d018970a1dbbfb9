/** What an operator does to nodes: cordon, drain, reboot, remove and add again, fill up. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import {
  type ClusterOfTest,
  eventually,
  inUrl,
  isthmusOk,
  labName,
  mesh,
  namespace,
  podAddress,
  ready,
  serverPod,
} from '../e2e/mesh.ts';

const execFileAsync = promisify(execFile);
const internalIp = '{.status.addresses[?(@.type=="InternalIP")].address}';
let eu: ClusterOfTest;
let ns: Awaited<ReturnType<typeof namespace>>;

before(async () => {
  ({ eu } = await mesh());
  ns = await namespace('first-hour-nodes');
  await eu.apply(serverPod('client', { node: 'eu-worker' }), ns.name);
  await ready(eu, ns.name, 'client');
});
after(() => ns?.[Symbol.asyncDispose]());

const reaches = async (pod: string): Promise<void> =>
  assert.equal(
    await eu.sh(
      ns.name,
      'client',
      `wget -T 3 -qO- http://${inUrl(await podAddress(eu, ns.name, pod))}:8080/hostname`,
    ),
    pod,
  );

test('cordon, drain, uncordon', async () => {
  await eu.apply(serverPod('drained', { node: 'eu-worker2' }), ns.name);
  await ready(eu, ns.name, 'drained');
  await eu.kubectl(
    'drain',
    'eu-worker2',
    '--ignore-daemonsets',
    '--force',
    '--delete-emptydir-data',
    '--timeout=120s',
  );
  await eu.kubectl('uncordon', 'eu-worker2');
  await eu.apply(serverPod('after-drain', { node: 'eu-worker2' }), ns.name);
  await ready(eu, ns.name, 'after-drain');
  await reaches('after-drain');
});

test('a rebooted node comes back with its pods working', async () => {
  // Of dual stack both.
  const addresses = await eu.kubectl('get', 'node', 'eu-control-plane', '-o', `jsonpath=${internalIp}`);
  const pings = execFileAsync('ping', ['-q', '-i', '0.2', '-c', '40', '-W', '5', addresses.split(' ')[0]!]);
  await isthmusOk('lab', 'fault', 'restart', 'eu/eu-worker2', '--name', labName);
  // The container runtime is told of a network when there is one again, and not before.
  const watched = await eu.onNode(
    'eu-worker2',
    `while :; do
      there=; [ -e /etc/cni/net.d/05-isthmus.conflist ] && there=1
      curl -sf -m 10 -o /dev/null http://127.0.0.1:9879/readyz && break
      [ -z "$there" ] || echo early
    done; echo ready`,
  );
  assert.equal(watched.trim(), 'ready');
  assert.match((await pings).stdout, / 0% packet loss/, 'the other nodes do not notice');
  for (const node of ['eu-control-plane', 'eu-worker', 'eu-worker2'])
    assert.match(
      await eu.onNode(
        node,
        'for each in $(ip -o route show default | cut -d" " -f3) $(ip -6 -o route show default | cut -d" " -f3); do ip neigh show to $each; done',
      ),
      /lladdr 02:00:ac:/,
      `${node} knows its gateway by an address that stays`,
    );
  await eventually(
    'the node is Ready after the reboot',
    async () => {
      const state = await eu.kubectl(
        'get',
        'node',
        'eu-worker2',
        '-o',
        'jsonpath={.status.conditions[?(@.type=="Ready")].status}',
      );
      const agent = await eu.kubectl(
        '-n',
        'kube-system',
        'get',
        'pods',
        '-l',
        'k8s-app=isthmus',
        '--field-selector',
        'spec.nodeName=eu-worker2',
        '-o',
        'jsonpath={.items[0].status.containerStatuses[0].ready}',
      );
      return state === 'True' && agent === 'true';
    },
    90,
  );
  await eu.kubectl('-n', ns.name, 'delete', 'pod', 'after-drain', '--grace-period=0', '--force');
  await eu.apply(serverPod('after-reboot', { node: 'eu-worker2' }), ns.name);
  await ready(eu, ns.name, 'after-reboot');
  await reaches('after-reboot');
});

test('a node deleted from the API and registered again', async () => {
  await eu.kubectl('delete', 'node', 'eu-worker2');
  await isthmusOk('lab', 'fault', 'restart', 'eu/eu-worker2', '--name', labName);
  await eventually(
    'the node is back',
    async () => {
      const state = await eu.tryKubectl(
        'get',
        'node',
        'eu-worker2',
        '-o',
        'jsonpath={.status.conditions[?(@.type=="Ready")].status}',
      );
      return state.stdout === 'True';
    },
    90,
  );
  await eu.apply(serverPod('after-return', { node: 'eu-worker2' }), ns.name);
  await ready(eu, ns.name, 'after-return');
  await reaches('after-return');
});

test('110 pods fit on a node and one of them answers', async () => {
  await eu.apply(
    JSON.stringify({
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: 'many' },
      spec: {
        replicas: 110,
        selector: { matchLabels: { app: 'many' } },
        template: {
          metadata: { labels: { app: 'many' } },
          spec: {
            nodeSelector: { 'kubernetes.io/hostname': 'eu-worker2' },
            terminationGracePeriodSeconds: 0,
            automountServiceAccountToken: false,
            containers: [{ name: 'pause', image: 'registry.k8s.io/pause:3.10' }],
          },
        },
      },
    }),
    ns.name,
  );
  const count = await eventually(
    'the node is full',
    async () => {
      const out = await eu.kubectl(
        'get',
        'pods',
        '-A',
        '--field-selector',
        'spec.nodeName=eu-worker2,status.phase=Running',
        '--no-headers',
      );
      return out.trim().split('\n').length >= 110 ? out.trim().split('\n').length : undefined;
    },
    180,
  );
  assert.equal(count, 110);
  const addresses = (
    await eu.kubectl(
      '-n',
      ns.name,
      'get',
      'pods',
      '-l',
      'app=many',
      '--field-selector',
      'status.phase=Running',
      '-o',
      'jsonpath={range .items[*]}{.status.podIP}{"\\n"}{end}',
    )
  )
    .trim()
    .split('\n');
  assert.equal(new Set(addresses).size, addresses.length);
  await eu.sh(ns.name, 'client', `ping -c 1 -W 5 ${addresses[0]} && ping -c 1 -W 5 ${addresses.at(-1)}`);
  // Last of its file, so that nobody needs the node: the pods go while other tests run.
  await eu.kubectl('-n', ns.name, 'delete', 'deployment', 'many', '--wait=false');
});
