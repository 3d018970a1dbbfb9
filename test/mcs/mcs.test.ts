import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import * as z from 'zod';
import { derivedName } from '../../src/mcsapi/derived-name.ts';
import {
  answersCome,
  type ClusterOfTest,
  eventually,
  mesh,
  namespace,
  serverPod,
  serviceFor,
} from '../e2e/mesh.ts';

const ns = 'mcs';
const derived = derivedName(ns, 'web');
/** CoreDNS remembers for half a minute that a name was not there. */
const seconds = 40;
const url = `http://web.${ns}.svc.clusterset.local/hostname`;
let us: ClusterOfTest;
let eu: ClusterOfTest;
let both: readonly ClusterOfTest[];

const exportOf = (name: string, version = 'v1beta1'): string =>
  JSON.stringify({
    apiVersion: `multicluster.x-k8s.io/${version}`,
    kind: 'ServiceExport',
    metadata: { name },
  });

const Import = z.object({
  metadata: z.object({ annotations: z.record(z.string(), z.string()).default({}) }),
  spec: z.object({ type: z.string(), ips: z.array(z.string()).default([]) }),
  status: z.object({ clusters: z.array(z.object({ cluster: z.string() })) }).optional(),
});
const importIn = (cluster: ClusterOfTest, name: string) =>
  cluster.json(Import, '-n', ns, 'get', 'serviceimport', name);
/** Addresses that a pod of a cluster gets for a name, sorted. */
const resolved = async (cluster: ClusterOfTest, name: string): Promise<string[]> => {
  const text = await cluster.sh(ns, `${cluster.name}-client`, `dig +short +tries=1 +time=2 ${name}`);
  return text
    .split('\n')
    .filter(each => each !== '')
    .sort();
};
const condition = async (cluster: ClusterOfTest, name: string, type: string): Promise<string> =>
  cluster.kubectl(
    ...['-n', ns, 'get', 'serviceexport', name, '-o'],
    `jsonpath={range .status.conditions[?(@.type=="${type}")]}{.status} {.reason}{end}`,
  );
const hasCondition = (cluster: ClusterOfTest, name: string, type: string, expected: string): Promise<true> =>
  eventually(`${name} in ${cluster.name}: ${type} is ${expected}`, async () => {
    const found = await condition(cluster, name, type);
    if (found !== expected) throw new Error(`found ${JSON.stringify(found)}`);
    return true;
  });

before(async () => {
  ({ us, eu } = await mesh());
  both = [us, eu];
  await namespace(ns);
  await Promise.all(
    both.map(async each => {
      for (const name of [`${each.name}-web`, `${each.name}-client`])
        await each.apply(serverPod(name, name.endsWith('web') ? { labels: { app: 'web' } } : {}), ns);
      await each.apply(serviceFor('web'), ns);
      await each.kubectl('-n', ns, 'wait', '--for=condition=Ready', 'pod', '--all', '--timeout=120s');
    }),
  );
});

test('CoreDNS answers for the clusterset, and no name is there that nobody exports', async () => {
  for (const each of both) {
    await each.kubectl('-n', 'kube-system', 'rollout', 'status', 'deployment/coredns', '--timeout=120s');
    const said = await each.sh(
      ns,
      `${each.name}-client`,
      `dig +noall +comments nobody.${ns}.svc.clusterset.local`,
    );
    assert.match(said, /status: NXDOMAIN/);
  }
});

test('what one cluster exports all have, by name and address; only its pods answer', async () => {
  await eu.apply(exportOf('web'), ns);
  for (const each of both) {
    const found = await eventually(`an import with an address in ${each.name}`, async () => {
      const row = await importIn(each, 'web');
      return row.spec.ips.length ? row : undefined;
    });
    assert.equal(found.spec.type, 'ClusterSetIP');
    assert.deepEqual(found.status?.clusters, [{ cluster: 'eu' }]);
    assert.equal(found.metadata.annotations['multicluster.kubernetes.io/derived-service'], derived);
    const address = await each.kubectl(
      '-n',
      ns,
      'get',
      'service',
      derived,
      '-o',
      'jsonpath={.spec.clusterIP}',
    );
    assert.deepEqual(found.spec.ips, [address]);
    const isResolved = async (): Promise<boolean> =>
      (await resolved(each, `web.${ns}.svc.clusterset.local`)).join() === address;
    await eventually(`DNS in ${each.name}`, isResolved, seconds);
    await answersCome(each, ns, `${each.name}-client`, 'eu-web', { url, seconds });
  }
  await hasCondition(eu, 'web', 'Valid', 'True Valid');
  await hasCondition(eu, 'web', 'Ready', 'True Ready');
  await hasCondition(eu, 'web', 'Conflict', 'False NoConflicts');
});

test('two clusters export it: both answer, and one alone while the other has no pod', async () => {
  await us.apply(exportOf('web', 'v1alpha1'), ns);
  for (const each of both)
    await answersCome(each, ns, `${each.name}-client`, 'eu-web us-web', { url, seconds });
  await eu.kubectl('-n', ns, 'delete', 'pod', 'eu-web');
  for (const each of both) await answersCome(each, ns, `${each.name}-client`, 'us-web', { url, seconds });
  await eu.apply(serverPod('eu-web', { labels: { app: 'web' } }), ns);
  for (const each of both)
    await answersCome(each, ns, `${each.name}-client`, 'eu-web us-web', { url, seconds });
});

test('clusters that disagree: the older export is in force, and both are told', async () => {
  await us.kubectl('-n', ns, 'patch', 'service', 'web', '-p', '{"spec":{"sessionAffinity":"ClientIP"}}');
  for (const each of both) await hasCondition(each, 'web', 'Conflict', 'True SessionAffinityConflict');
  const affinity = ['-n', ns, 'get', 'service', derived, '-o', 'jsonpath={.spec.sessionAffinity}'];
  for (const each of both) assert.equal(await each.kubectl(...affinity), 'None');
  const events = await us.kubectl('-n', ns, 'events', '--for', 'serviceexport/web');
  assert.match(events, /SessionAffinityConflict/);
  await us.kubectl('-n', ns, 'patch', 'service', 'web', '-p', '{"spec":{"sessionAffinity":"None"}}');
  for (const each of both) await hasCondition(each, 'web', 'Conflict', 'False NoConflicts');
});

test('a headless service: its pods in all clusters, and each by its own name', async () => {
  for (const each of both) {
    await each.apply(
      JSON.stringify({
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { name: 'db' },
        spec: { clusterIP: 'None', selector: { app: 'db' }, ports: [{ name: 'http', port: 8080 }] },
      }),
      ns,
    );
    const pod = JSON.parse(serverPod(`${each.name}-db`, { labels: { app: 'db' } }));
    Object.assign(pod.spec, { hostname: 'db-0', subdomain: 'db' });
    await each.apply(JSON.stringify(pod), ns);
    await each.apply(exportOf('db'), ns);
  }
  const addressOf = async (cluster: ClusterOfTest): Promise<string> => {
    await cluster.kubectl(
      '-n',
      ns,
      'wait',
      '--for=condition=Ready',
      `pod/${cluster.name}-db`,
      '--timeout=60s',
    );
    return cluster.kubectl('-n', ns, 'get', 'pod', `${cluster.name}-db`, '-o', 'jsonpath={.status.podIP}');
  };
  const pods = { us: await addressOf(us), eu: await addressOf(eu) };
  for (const each of both) {
    await eventually(
      `all pods in DNS of ${each.name}`,
      async () => {
        const found = await resolved(each, `db.${ns}.svc.clusterset.local`);
        if (found.join() !== Object.values(pods).sort().join()) throw new Error(`found ${found}`);
        return true;
      },
      seconds,
    );
    for (const [cluster, address] of Object.entries(pods))
      assert.deepEqual(await resolved(each, `db-0.${cluster}.db.${ns}.svc.clusterset.local`), [address]);
    assert.deepEqual((await importIn(each, 'db')).spec.ips, []);
  }
});

test('a namespace that is not global in one cluster: nothing of it is exported, and nothing imported into it', async () => {
  const global = 'clustermesh.cilium.io/global';
  await us.kubectl('annotate', 'namespace', ns, `${global}=false`);
  await hasCondition(us, 'web', 'Valid', 'False NamespaceNotGlobal');
  await answersCome(eu, ns, 'eu-client', 'eu-web', { url, seconds });
  const clusters = async (): Promise<string> =>
    JSON.stringify((await importIn(eu, 'web')).status?.clusters ?? []);
  await eventually('only eu exports it', async () => (await clusters()) === '[{"cluster":"eu"}]');
  const isGone = async (): Promise<boolean> =>
    (await us.kubectl('-n', ns, 'get', 'service', derived, '--ignore-not-found', '-o', 'name')).trim() === '';
  await eventually('us has no derived Service', isGone);
  await us.kubectl('annotate', 'namespace', ns, `${global}-`);
  await hasCondition(us, 'web', 'Valid', 'True Valid');
  for (const each of both)
    await answersCome(each, ns, `${each.name}-client`, 'eu-web us-web', { url, seconds });
});

test('exports that cannot be say why', async () => {
  await us.apply(exportOf('nothing'), ns);
  await hasCondition(us, 'nothing', 'Valid', 'False NoService');
  await us.apply(
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'nothing' },
      spec: { type: 'ExternalName', externalName: 'example.com' },
    }),
    ns,
  );
  await hasCondition(us, 'nothing', 'Valid', 'False InvalidServiceType');
  await us.kubectl('-n', ns, 'delete', 'serviceexport,service', 'nothing');
});

test('unexported everywhere, nothing is left', async () => {
  for (const each of both) await each.kubectl('-n', ns, 'delete', 'serviceexport', '--all');
  for (const each of both) {
    await eventually(`nothing of the clusterset in ${each.name}`, async () => {
      const left = await each.kubectl(
        ...['-n', ns, 'get', 'serviceimports,services,endpointslices', '-o', 'name'],
        '-l',
        'multicluster.kubernetes.io/service-name',
      );
      const imports = await each.kubectl('-n', ns, 'get', 'serviceimports', '-o', 'name');
      if (left.trim() || imports.trim()) throw new Error(`left: ${left}${imports}`);
      return true;
    });
    const exported = await each.kubectl(
      ...['-n', 'kube-system', 'exec', 'deploy/clustermesh-apiserver', '-c', 'apiserver', '--'],
      ...['/usr/bin/node', '/isthmus/dist/clustermesh-apiserver.mjs', 'state'],
    );
    assert.doesNotMatch(exported, /"cilium\/state\/serviceexports\/v1\/|\/derived-/);
  }
  await both[0]!.kubectl('delete', 'namespace', ns, '--wait=false');
  await both[1]!.kubectl('delete', 'namespace', ns, '--wait=false');
});
