/** What somebody looks with when something is wrong: each command once, with what it must show. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { extract } from 'tar-stream';
import { parse } from 'yaml';
import * as z from 'zod';
import {
  type ClusterOfTest,
  eventually,
  isthmus,
  isthmusOk,
  mesh,
  podAddress,
  ready,
  serverPod,
  serviceFor,
} from './mesh.ts';

const ns = 'tools';
let us: ClusterOfTest;
const at: Record<string, string> = {};
let clusterIP: string;

before(async () => {
  ({ us } = await mesh());
  await us.apply(JSON.stringify({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: ns } }));
  await us.apply(
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: 'mine' },
      stringData: { password: planted },
    }),
    ns,
  );
  const client = JSON.parse(serverPod('client', { node: 'us-worker' }));
  client.spec.containers[0].env = [{ name: 'MY_PASSWORD', value: planted }];
  await us.apply(JSON.stringify(client), ns);
  await us.apply(serverPod('web', { node: 'us-worker2' }), ns);
  await us.apply(serviceFor('web', { type: 'NodePort' }), ns);
  await ready(us, ns, 'client', 'web');
  for (const pod of ['client', 'web']) at[pod] = await podAddress(us, ns, pod);
  clusterIP = await us.kubectl('-n', ns, 'get', 'service', 'web', '-o', 'jsonpath={.spec.clusterIP}');
  await eventually(
    'the service answers',
    async () => (await us.sh(ns, 'client', 'curl -s -m 2 http://web/hostname')) === 'web',
  );
});
after(async () => {
  await us?.tryKubectl('delete', 'namespace', ns, '--wait=false');
});

const planted = 'hunter22-planted-by-the-test';

/** Lines of a command's table. */
async function table(...args: string[]): Promise<string[]> {
  return (await isthmusOk(...args, '--context', 'us')).trimEnd().split('\n');
}

/** Its cells in the row that has all of these words. */
function row(lines: readonly string[], ...words: string[]): string {
  const found = lines.filter(line => words.every(word => line.split(/\s+/).includes(word)));
  assert.equal(found.length, 1, `rows with ${words.join(', ')}:\n${lines.join('\n')}`);
  return found[0]!;
}

async function json<T>(schema: z.ZodType<T>, ...args: string[]): Promise<T> {
  return schema.parse(JSON.parse(await isthmusOk(...args, '--context', 'us', '-o', 'json')));
}

const Rows = z.array(z.looseObject({}));

test('service list and get', async () => {
  const lines = await table('service', 'list');
  assert.match(lines[0]!, /^ID +SERVICE +TYPE +FRONTEND +BACKENDS$/);
  assert.ok(row(lines, `${ns}/web`, 'ClusterIP', `${clusterIP}:80/TCP`).includes(`${at.web}:8080`));
  for (const wanted of [`${ns}/web`, clusterIP]) {
    const text = await isthmusOk('service', 'get', wanted, '--context', 'us', '--node', 'us-worker');
    assert.match(text, new RegExp(`^Service ${ns}/web\n`));
    assert.ok(text.includes(`    → ${at.web}:8080\n`), text);
  }
  assert.ok((await json(Rows, 'service', 'list')).length >= 4);
  assert.deepEqual(
    parse(await isthmusOk('service', 'get', `${ns}/web`, '--context', 'us', '-o', 'yaml')),
    await json(Rows, 'service', 'get', `${ns}/web`),
  );
});

test('endpoint list, get and log', async () => {
  const lines = await table('endpoint', 'list');
  assert.ok(row(lines, 'us-worker', `${ns}/client`, at.client!).includes('ready'));
  row(lines, 'us-worker2', `${ns}/web`, at.web!);
  assert.ok(
    !(await table('endpoint', 'list', '--node', 'us-worker')).some(line => line.includes(`${ns}/web`)),
  );
  const text = await isthmusOk('endpoint', 'get', at.client!, '--context', 'us');
  assert.match(text, new RegExp(`^Endpoint \\d+ of pod ${ns}/client\n`));
  assert.match(text, /\n {2}mac +[0-9a-f:]{17}\n/);
  const log = await isthmusOk('endpoint', 'log', `${ns}/client`, '--context', 'us');
  assert.match(log, / {2}\d{4}-\d\d-\d\dT[\d:.]+Z {2}being made by the CNI plugin, address /);
  assert.match(log, /ready: traffic is delivered\n/);
  await us.apply(serverPod('brief', { node: 'us-worker' }), ns);
  await ready(us, ns, 'brief');
  await us.kubectl('-n', ns, 'delete', 'pod', 'brief', '--wait=true');
  assert.match(
    await isthmusOk('endpoint', 'log', `${ns}/brief`, '--context', 'us'),
    /^Endpoint \d+ of pod tools\/brief on us-worker, gone\n[\s\S]*removed: its address is free again\n$/,
  );
});

test('node list', async () => {
  const lines = await table('node', 'list');
  const address = await us.kubectl(
    'get',
    'node',
    'us-worker',
    '-o',
    'jsonpath={.status.addresses[0].address}',
  );
  assert.ok(row(lines, 'us', 'us-worker', address).includes('10.1.'));
});

test('maps: services, flows, prefixes, endpoints, counters, tunnel', async () => {
  const lb = await table('bpf', 'lb', 'list');
  assert.match(row(lb, `${clusterIP}:80`, 'TCP'), new RegExp(`${at.web}:8080 \\(\\d+\\)`));
  // Sockets of pods call the backend themselves: the flow is the pod's and the backend's.
  await us.sh(ns, 'client', 'curl -s -m 10 http://web/hostname');
  const flows = await table('bpf', 'ct', 'list');
  assert.match(flows[0]!, /^NODE +PROTO +SOURCE +DESTINATION +STATE +EXPIRES +IDENTITY +SERVICE +NAT/);
  const seen = new RegExp(
    `^us-worker +TCP +${at.client}:\\d+ +${at.web}:8080 +(closed|closing|established) `,
  );
  assert.ok(
    flows.some(line => seen.test(line)),
    flows.join('\n'),
  );
  // From outside the node translates: this machine asks by the NodePort of another node.
  const port = await us.kubectl(
    '-n',
    ns,
    'get',
    'service',
    'web',
    '-o',
    'jsonpath={.spec.ports[0].nodePort}',
  );
  const worker = await us.kubectl(
    'get',
    'node',
    'us-worker',
    '-o',
    'jsonpath={.status.addresses[0].address}',
  );
  assert.equal(await (await fetch(`http://${worker}:${port}/hostname`)).text(), 'web');
  const nat = await table('bpf', 'nat', 'list', '--node', 'us-worker');
  assert.ok(
    nat.some(line => line.includes(`→ ${worker}:${port} `) && line.includes(`→ ${at.web}:8080 `)),
    nat.join('\n'),
  );
  const prefixes = await table('bpf', 'ipcache', 'list', '--node', 'us-worker');
  assert.match(row(prefixes, `${at.web}/32`), new RegExp(` ${await nodeAddress('us-worker2')}`));
  row(await table('bpf', 'endpoint', 'list'), 'us-worker2', at.web!);
  const metrics = await table('bpf', 'metrics', 'list');
  assert.match(metrics[0]!, /^NODE +REASON +DIRECTION +PACKETS +BYTES$/);
  assert.ok(
    metrics.some(line => /^us-worker +forwarded +egress +[\d,]+ +[\d,]+$/.test(line)),
    metrics.join('\n'),
  );
  const tunnel = await table('bpf', 'tunnel', 'list', '--node', 'us-worker');
  assert.match(row(tunnel, await nodeAddress('us-worker2')), /10\.1\.\d\.0\/24/);
  const rows = await json(
    z.array(z.looseObject({ node: z.string(), key: z.looseObject({}), value: z.looseObject({}) })),
    ...['bpf', 'ipcache', 'list'],
  );
  assert.ok(rows.length > 5);
});

const nodeAddress = (node: string): Promise<string> =>
  us.kubectl('get', 'node', node, '-o', 'jsonpath={.status.addresses[0].address}');

test('inside an agent’s pod the same commands show its node, without a kubeconfig', async () => {
  const run = (...args: string[]): Promise<string> =>
    us.kubectl('-n', 'kube-system', 'exec', 'ds/isthmus', '--', 'isthmus', ...args);
  assert.match(await run('bpf', 'lb', 'list'), /FRONTEND/);
  assert.match(await run('service', 'list'), new RegExp(`${ns}/web`));
});

test('a wrong question is answered with what to do', async () => {
  const said = async (...args: string[]): Promise<string> => {
    const { code, stderr } = await isthmus(...args, '--context', 'us');
    assert.equal(code, 1, stderr);
    return stderr;
  };
  assert.match(
    await said('bpf', 'ct', 'list', '--node', 'nope'),
    /^Error: there is no node nope\n💡 there are: us-control-plane, us-worker, us-worker2\n$/,
  );
  assert.match(await said('service', 'get', 'nope'), /balances no service nope\n💡 isthmus service list/);
  assert.match(
    await said('endpoint', 'get', 'nope'),
    /^Error: no endpoint fits nope\n💡 isthmus endpoint list/,
  );
  assert.match(
    await said('endpoint', 'list', '--namespace', 'default'),
    /^Error: namespace default of context isthmus-us has no agents\n💡 install Isthmus/,
  );
});

test('a sysdump has what a bug report needs, and no secret of the cluster', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'isthmus-sysdump-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'dump.tar.gz');
  const { code, stderr } = await isthmus('sysdump', '--context', 'us', '--output-filename', file);
  assert.equal(code, 0, stderr);
  assert.ok(!stderr.includes('⚠️'), stderr);
  const files = new Map<string, string>();
  const reader = extract();
  reader.end(gunzipSync(readFileSync(file)));
  for await (const entry of reader) {
    const chunks: Buffer[] = [];
    for await (const chunk of entry) chunks.push(chunk as Buffer);
    files.set(entry.header.name.replace(/^[^/]*\//, ''), Buffer.concat(chunks).toString());
  }
  const names = [...files.keys()];
  for (const wanted of [
    ...['status.txt', 'objects/nodes.yaml', 'objects/services.yaml', 'objects/pods.yaml'],
    ...['objects/isthmus-config.yaml', 'objects/events.yaml', 'objects/ciliumendpoints.yaml'],
    ...['status.json', 'services.json', 'endpoint-log.json', 'metrics.txt', 'maps/conntrack.jsonl'].map(
      each => `nodes/us-worker/${each}`,
    ),
  ])
    assert.ok(names.includes(wanted), `${wanted} in\n${names.join('\n')}`);
  for (const pattern of [
    /^logs\/isthmus-.*-agent\.log$/,
    /^logs\/isthmus-operator-.*\.log$/,
    /^etcd\/.*\.jsonl$/,
  ])
    assert.ok(
      names.some(each => pattern.test(each)),
      `${pattern} in\n${names.join('\n')}`,
    );
  assert.match(files.get('objects/services.yaml')!, /name: web/);
  const etcd = names.find(each => each.startsWith('etcd/'))!;
  assert.match(files.get(etcd)!, /"key":"cilium\/state\/nodes\/v1\/us\/us-worker"/);

  const all = [...files].map(([name, text]) => `${name}\n${text}`).join('\n');
  assert.ok(!all.includes(planted), 'the password of a pod’s environment');
  const { items } = await us.json(
    z.object({
      items: z.array(
        z.object({
          metadata: z.object({ name: z.string() }),
          data: z.record(z.string(), z.string()).nullish(),
        }),
      ),
    }),
    ...['get', 'secrets', '-A'],
  );
  assert.ok(items.length > 3);
  for (const { metadata, data } of items)
    for (const [key, value] of Object.entries(data ?? {})) {
      const text = Buffer.from(value, 'base64').toString('latin1');
      // Certificates are shown to everybody who connects.
      if (text.startsWith('-----BEGIN CERTIFICATE')) continue;
      for (const line of [value, ...text.split('\n')].filter(
        each => each.length >= 24 && !each.startsWith('-----'),
      ))
        assert.ok(!all.includes(line.slice(0, 200)), `${metadata.name} ${key}`);
    }
  assert.doesNotMatch(all, /PRIVATE KEY-----\n?[A-Za-z0-9+/=]{20}/);
});
