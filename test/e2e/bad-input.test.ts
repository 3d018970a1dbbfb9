/** What others say wrongly is refused in a clear sentence, and everything else keeps working. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import * as z from 'zod';
import { createAuthority, issueCertificate } from '../../src/clustermesh/x509.ts';
import { disguised } from './disguised-cluster.ts';
import {
  answersCome,
  type ClusterOfTest,
  eventually,
  isthmus,
  isthmusOk,
  mesh,
  namespace,
  podAddress,
  ready,
  serverPod,
  serviceFor,
} from './mesh.ts';
import { type MeshEtcd, meshEtcd, secretOf } from './mesh-etcd.ts';

let us: ClusterOfTest;
let eu: ClusterOfTest;
let ns: Awaited<ReturnType<typeof namespace>>;
let etcd: MeshEtcd;
let remoteAddress = '';

before(async () => {
  ({ us, eu } = await mesh());
  ns = await namespace('bad-input');
  for (const each of [us, eu]) {
    await each.apply(
      serverPod(`${each.name}-web`, { node: `${each.name}-worker`, labels: { app: 'web' } }),
      ns.name,
    );
    await each.apply(serviceFor('web', { annotations: { 'service.cilium.io/global': 'true' } }), ns.name);
  }
  await us.apply(serverPod('client', { node: 'us-worker' }), ns.name);
  await ready(us, ns.name, 'us-web', 'client');
  await ready(eu, ns.name, 'eu-web');
  remoteAddress = await podAddress(eu, ns.name, 'eu-web');
  etcd = await meshEtcd(eu);
});
after(async () => {
  await etcd?.[Symbol.asyncDispose]();
  await ns?.[Symbol.asyncDispose]();
});

const Problem = z.object({ node: z.string(), cluster: z.string(), message: z.string() });
const MeshStatus = z.object({
  clusters: z.record(z.string(), z.object({ configured: z.number(), connected: z.number() })),
  errors: z.array(Problem),
  warnings: z.array(Problem),
});

async function meshStatus(): Promise<z.infer<typeof MeshStatus>> {
  const { stdout } = await isthmus('clustermesh', 'status', '--context', 'us', '-o', 'json');
  return MeshStatus.parse(JSON.parse(stdout));
}

/** Waits until every node of us says this of each cluster; resolves to how many nodes there are. */
function everyNodeSays(
  kind: 'errors' | 'warnings',
  expected: Readonly<Record<string, RegExp>>,
): Promise<number> {
  return eventually(
    `${kind} in us`,
    async () => {
      const status = await meshStatus();
      const nodes = Object.values(status.clusters)[0]!.configured;
      for (const [cluster, text] of Object.entries(expected)) {
        const found = status[kind].filter(each => each.cluster === cluster && text.test(each.message));
        if (found.length < nodes)
          throw new Error(
            `${cluster} ${text} on ${found.length} of ${nodes} nodes: ${JSON.stringify([...status.errors, ...status.warnings])}`,
          );
      }
      return nodes;
    },
    60,
  );
}

const nothingIsSaid = (): Promise<true> =>
  eventually(
    'us has nothing to complain about',
    async () => {
      const { errors, warnings } = await meshStatus();
      if (errors.length + warnings.length > 0) throw new Error(JSON.stringify([...errors, ...warnings]));
      return true as const;
    },
    60,
  );

const answersAre = (expected: string): Promise<true> =>
  answersCome(us, ns.name, 'client', expected, { seconds: 30, patience: 5 });
const bothAnswer = (): Promise<true> => answersAre('eu-web us-web');

test('a malformed value: its key is named, its last good value stays, later changes arrive', async () => {
  await bothAnswer();
  const key = `cilium/state/ip/v1/default/${remoteAddress}`;
  const good = (await etcd.admin('get', '--print-value-only', key)).trim();
  assert.match(good, /eu-web/);
  await etcd.admin('put', '--ignore-lease', key, '{"IP": "not an address"');
  try {
    await everyNodeSays('warnings', {
      eu: new RegExp(`^value refused: ${key}: found .*not an address.*, expected a JSON object$`),
    });
    assert.match(
      await isthmusOk('clustermesh', 'status', '--context', 'us'),
      /value refused: cilium\/state\/ip/,
    );
    const status = await isthmusOk('status', '--context', 'us');
    assert.match(status, /cluster eu: value refused: cilium\/state\/ip/);
    assert.match(status, /└ OK, \d+ warnings?/);
    const metrics = await us.kubectl(
      ...['-n', 'kube-system', 'exec', 'daemonset/isthmus', '--', 'isthmus', 'agent', 'metrics'],
    );
    assert.match(metrics, /isthmus_clustermesh_remote_cluster_refused_values\{target_cluster="eu"\} 1\n/);
    assert.equal(
      await us.sh(ns.name, 'client', `curl -s -m 5 http://${remoteAddress}:8080/hostname`),
      'eu-web',
    );
    await eu.kubectl('-n', ns.name, 'label', '--overwrite', 'pod', 'eu-web', 'app=away');
    await answersAre('us-web');
    await eu.kubectl('-n', ns.name, 'label', '--overwrite', 'pod', 'eu-web', 'app=web');
    await bothAnswer();
  } finally {
    const now = (await etcd.admin('get', '--print-value-only', key)).trim();
    // The relabelled pod was exported anew meanwhile, if its identity changed for good.
    if (now !== good) await etcd.admin('put', '--ignore-lease', key, good);
  }
  await nothingIsSaid();
});

test('a range that overlaps ours is reported, and our pods keep theirs', async () => {
  const range = await us.kubectl('get', 'node', 'us-worker', '-o', 'jsonpath={.spec.podCIDR}');
  const key = 'cilium/state/nodes/v1/eu/greedy';
  const node = JSON.parse(
    await etcd.admin('get', '--print-value-only', 'cilium/state/nodes/v1/eu/eu-worker'),
  );
  const [ip, bits] = range.split('/');
  const mask = Buffer.from(((0xffffffff << (32 - Number(bits))) >>> 0).toString(16), 'hex');
  await etcd.admin(
    'put',
    key,
    JSON.stringify({
      ...node,
      Name: 'greedy',
      IPAddresses: [{ Type: 'InternalIP', IP: '192.0.2.77' }],
      IPv4AllocCIDR: { IP: ip, Mask: mask.toString('base64') },
    }),
  );
  try {
    await everyNodeSays('warnings', {
      eu: new RegExp(`^pod CIDRs overlap: ${range} of eu/greedy and ${range} of us/us-worker$`),
    });
    await us.apply(serverPod('newcomer', { node: 'us-worker' }), ns.name);
    await us.apply(serverPod('elsewhere', { node: 'us-worker2' }), ns.name);
    await ready(us, ns.name, 'newcomer', 'elsewhere');
    const address = await podAddress(us, ns.name, 'newcomer');
    for (const from of ['client', 'elsewhere'])
      assert.equal(
        await us.sh(ns.name, from, `curl -s -m 5 http://${address}:8080/hostname`),
        'newcomer',
        from,
      );
    assert.match(await us.onNode('us-worker2', `curl -s -m 5 http://${address}:8080/hostname`), /^newcomer/);
    await bothAnswer();
  } finally {
    await etcd.admin('del', key);
  }
  await nothingIsSaid();
});

test('clusters with a wrong certificate, no etcd, or nonsense for a configuration harm no other', async () => {
  const address = (node: string): Promise<string> =>
    eu.kubectl('get', 'node', node, '-o', 'jsonpath={.status.addresses[0].address}');
  const config = await secretOf(us, 'cilium-clustermesh');
  const stranger = await createAuthority(
    'a stranger',
    new Date(Date.now() - 60_000),
    new Date(Date.now() + 3_600_000),
  );
  const { cert, key } = await issueCertificate(stranger, {
    commonName: 'remote-us',
    usages: ['client'],
    notBefore: new Date(Date.now() - 60_000),
    notAfter: new Date(Date.now() + 3_600_000),
  });
  const folder = '/var/lib/cilium/clustermesh';
  const configured = (name: string, endpoint: string): Record<string, string> => ({
    [name]: [
      `endpoints: ["https://${endpoint}"]`,
      `trusted-ca-file: ${folder}/${name}.etcd-client-ca.crt`,
      `cert-file: ${folder}/${name}.etcd-client.crt`,
      `key-file: ${folder}/${name}.etcd-client.key`,
      '',
    ].join('\n'),
    [`${name}.etcd-client-ca.crt`]: config['eu.etcd-client-ca.crt']!,
    [`${name}.etcd-client.crt`]: config['eu.etcd-client.crt']!,
    [`${name}.etcd-client.key`]: config['eu.etcd-client.key']!,
  });
  const alias = (name: string): string => config.eu!.replaceAll('eu.etcd-client', `${name}.etcd-client`);
  const additions: Record<string, string> = {
    ...configured('closed', `${await address('eu-worker')}:1`),
    ...configured('stranger', ''),
    stranger: alias('stranger'),
    'stranger.etcd-client.crt': cert,
    'stranger.etcd-client.key': key,
    ...configured('impostor', ''),
    impostor: alias('impostor'),
    'impostor.etcd-client-ca.crt': stranger.cert,
    ...configured('misnamed', ''),
    misnamed: alias('misnamed'),
    nonsense: 'endpoints: 7\n',
  };
  const patch = async (values: Readonly<Record<string, string | null>>): Promise<void> => {
    const data = Object.fromEntries(
      Object.entries(values).map(([name, text]) => [
        name,
        text === null ? null : Buffer.from(text).toString('base64'),
      ]),
    );
    await us.kubectl(
      ...['-n', 'kube-system', 'patch', 'secret', 'cilium-clustermesh', '--type=merge'],
      ...['-p', JSON.stringify({ data })],
    );
    // A change of a pod has its kubelet look at the pod's Secrets at once.
    await us.kubectl(
      ...['-n', 'kube-system', 'annotate', '--overwrite', 'pods', '-l', 'k8s-app=isthmus'],
      `test/at=${Date.now()}`,
    );
  };
  await patch(additions);
  try {
    const nodes = await everyNodeSays('errors', {
      closed: /^tcp: .*:1: connect ECONNREFUSED/,
      stranger: /^tls: .*the server refuses our certificate/,
      impostor: /^tls: .*the server's certificate is not signed by the CA it should be/,
      misnamed: /^authentication: cilium\/cluster-config\/misnamed may not be read/,
      nonsense: /^configuration: endpoints: /,
    });
    const { clusters } = await meshStatus();
    assert.deepEqual(clusters.eu, { configured: nodes, connected: nodes });
    assert.equal((await isthmus('clustermesh', 'status', '--context', 'us')).code, 1);
    assert.match((await isthmus('status', '--context', 'us')).stdout, /cluster closed: tcp: /);
    await eu.kubectl('-n', ns.name, 'label', '--overwrite', 'pod', 'eu-web', 'app=away');
    await answersAre('us-web');
  } finally {
    await eu.kubectl('-n', ns.name, 'label', '--overwrite', 'pod', 'eu-web', 'app=web');
    await patch(Object.fromEntries(Object.keys(additions).map(name => [name, null])));
  }
  await nothingIsSaid();
});

test('connect refuses two clusters with one name, and two with one ID, before it changes anything', async () => {
  const before = await secretOf(us, 'cilium-clustermesh');
  const connect = async (settings: Readonly<Record<string, string>>): Promise<string> => {
    await using twin = await disguised(eu.name, settings);
    const { code, stderr } = await isthmus(
      ...['clustermesh', 'connect', '--context', 'isthmus-us', '--destination-context', 'twin'],
      ...['--kubeconfig', twin.kubeconfig],
    );
    assert.notEqual(code, 0);
    return stderr;
  };
  const named = await connect({ 'cluster-name': 'us', 'cluster-id': '7' });
  assert.match(named, /^Error: both clusters have the name us$/m);
  assert.match(named, /isthmus upgrade --set cluster\.name=/);
  const numbered = await connect({ 'cluster-name': 'twin', 'cluster-id': '1' });
  assert.match(numbered, /^Error: clusters us and twin have the same ID 1$/m);
  assert.match(numbered, /isthmus upgrade --set cluster\.id=/);
  assert.deepEqual(await secretOf(us, 'cilium-clustermesh'), before);
});
