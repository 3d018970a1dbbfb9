/** Secrets and users as Cilium's own chart writes them for a cluster, applied to a cluster of Isthmus by kubectl. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { parse, parseAllDocuments } from 'yaml';
import * as z from 'zod';
import { ensureBinaries } from '../../src/lab/binaries.ts';
import {
  answersCome,
  type ClusterOfTest,
  eventually,
  isthmusOk,
  mesh,
  namespace,
  nodeAddress,
  ready,
  serverPod,
  serviceFor,
} from '../e2e/mesh.ts';
import { ciliumRelease } from './cilium-image.ts';

let us: ClusterOfTest;
let eu: ClusterOfTest;
let ns: Awaited<ReturnType<typeof namespace>>;

before(async () => {
  ({ us, eu } = await mesh());
  ns = await namespace('secrets');
  const annotations = { 'service.cilium.io/global': 'true' };
  await us.apply(serverPod('client'), ns.name);
  await eu.apply(serverPod('eu-web', { labels: { app: 'web' } }), ns.name);
  for (const each of [us, eu]) await each.apply(serviceFor('web', { annotations }), ns.name);
  await ready(us, ns.name, 'client');
  await ready(eu, ns.name, 'eu-web');
});
after(() => ns?.[Symbol.asyncDispose]());

test("Isthmus joins by the objects that Cilium's chart makes for KVStoreMesh, and by nothing else", async () => {
  const objects = await renderedByCilium({
    cluster: { name: 'us', id: 1 },
    clustermesh: {
      useAPIServer: true,
      apiserver: { kvstoremesh: { enabled: true } },
      config: {
        enabled: true,
        clusters: { eu: { address: await nodeAddress(eu, 'eu-worker'), port: 32_380 } },
      },
    },
  });
  const names = objects.map(each => `${each.kind} ${each.metadata.name}`).sort();
  assert.deepEqual(names, [
    'ConfigMap clustermesh-remote-users',
    'Secret cilium-clustermesh',
    'Secret cilium-kvstoremesh',
  ]);
  const switched = (on: boolean) =>
    isthmusOk(
      ...['upgrade', '--context', 'us', '--set', `clustermesh.config.enabled=${on}`],
      ...['--set', `clustermesh.apiserver.kvstoremesh.enabled=${!on}`],
    );
  await switched(false);
  try {
    await eventually('the chart keeps no object of these names', async () => {
      for (const each of objects) {
        const found = await us.tryKubectl('-n', 'kube-system', 'get', each.kind, each.metadata.name);
        assert.match(found.stderr, /NotFound/);
      }
      return true;
    });
    await eventually('eu is forgotten', async () => (await remoteNames()).length === 0, 180);
    for (const each of objects) await us.apply(JSON.stringify(each), 'kube-system');
    await isthmusOk('clustermesh', 'status', '--context', 'us', '--wait', '--wait-duration', '240s');
    assert.deepEqual(await remoteNames(), ['eu']);
    await answersCome(us, ns.name, 'client', 'eu-web', { seconds: 60 });
  } finally {
    for (const each of objects)
      await us.tryKubectl('-n', 'kube-system', 'delete', each.kind, each.metadata.name);
    await switched(true);
  }
  await isthmusOk('clustermesh', 'status', '--context', 'us', '--wait', '--wait-duration', '240s');
});

const Rendered = z.looseObject({ kind: z.string(), metadata: z.looseObject({ name: z.string() }) });

/** What Cilium's chart makes of these values for the mesh. */
async function renderedByCilium(values: object): Promise<z.infer<typeof Rendered>[]> {
  const report = (line: string): void => console.error(line);
  const [{ chart }, { helm }] = await Promise.all([
    ciliumRelease(report),
    ensureBinaries(['helm'], { report }),
  ]);
  const show = [
    'clustermesh-config/clustermesh-secret',
    'clustermesh-config/kvstoremesh-secret',
    'clustermesh-apiserver/users-configmap',
  ];
  const run = promisify(execFile)(helm, [
    ...[
      'template',
      'cilium',
      chart,
      '--namespace',
      'kube-system',
      '--kube-version',
      'v1.34.4',
      '--values',
      '-',
    ],
    ...show.flatMap(each => ['--show-only', `templates/${each}.yaml`]),
  ]);
  run.child.stdin?.end(JSON.stringify(values));
  return parseAllDocuments((await run).stdout).map(each => Rendered.parse(each.toJS()));
}

/** Clusters that the agents of us know, of all nodes together. */
async function remoteNames(): Promise<string[]> {
  const Status = z.object({ clusters: z.array(z.object({ name: z.string() })).default([]) });
  const pods = await us.kubectl('-n', 'kube-system', 'get', 'pods', '-l', 'k8s-app=isthmus', '-o', 'name');
  const found = await Promise.all(
    pods
      .trim()
      .split('\n')
      .map(async pod => {
        const text = await us.kubectl(
          '-n',
          'kube-system',
          'exec',
          pod,
          '--',
          'isthmus',
          'agent',
          'status',
          '-o',
          'json',
        );
        return Status.parse(parse(text)).clusters.map(each => each.name);
      }),
  );
  return [...new Set(found.flat())];
}
