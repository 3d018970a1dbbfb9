/** ServiceExports of a cluster of Isthmus (us) and one of real Cilium (eu) are one service in both. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import * as z from 'zod';
import { derivedName } from '../../src/mcsapi/derived-name.ts';
import {
  answersCome,
  type ClusterOfTest,
  eventually,
  mesh,
  namespace,
  ready,
  serverPod,
  serviceFor,
} from '../e2e/mesh.ts';

const name = 'interop-mcs';
let us: ClusterOfTest;
let eu: ClusterOfTest;
let both: readonly ClusterOfTest[];
let ns: Awaited<ReturnType<typeof namespace>>;

const serviceExport = JSON.stringify({
  apiVersion: 'multicluster.x-k8s.io/v1alpha1',
  kind: 'ServiceExport',
  metadata: { name: 'web' },
});
const Import = z.object({
  metadata: z.object({ annotations: z.record(z.string(), z.string()).default({}) }),
  spec: z.object({ type: z.string(), ips: z.array(z.string()).default([]) }),
  status: z.object({ clusters: z.array(z.object({ cluster: z.string() })).default([]) }).optional(),
});

/** The address of the import in a cluster, once exactly these clusters take part. */
const imported = (cluster: ClusterOfTest, ...exporting: string[]): Promise<string> =>
  eventually(
    `the import of ${exporting} in ${cluster.name}`,
    async () => {
      const { metadata, spec, status } = await cluster.json(
        Import,
        '-n',
        name,
        'get',
        'serviceimport',
        'web',
      );
      const clusters = status?.clusters.map(each => each.cluster).join() ?? '';
      if (clusters !== exporting.join() || !spec.ips[0]) throw new Error(`found ${clusters}, ${spec.ips}`);
      const derived = metadata.annotations['multicluster.kubernetes.io/derived-service'];
      assert.equal(derived, derivedName(name, 'web'), 'one name for it in both');
      return spec.ips[0];
    },
    60,
  );
const answers = async (expected: string, ...exporting: string[]): Promise<void> => {
  for (const each of both) {
    const url = `http://${await imported(each, ...exporting)}/hostname`;
    await answersCome(each, name, `${each.name}-client`, expected, { url, seconds: 60 });
  }
};
const conflict = (cluster: ClusterOfTest, expected: string): Promise<true> =>
  eventually(
    `Conflict in ${cluster.name} is ${expected}`,
    async () => {
      const found = await cluster.kubectl(
        ...['-n', name, 'get', 'serviceexport', 'web', '-o'],
        'jsonpath={range .status.conditions[?(@.type=="Conflict")]}{.status} {.reason}{end}',
      );
      if (found !== expected) throw new Error(`found ${found}`);
      return true;
    },
    60,
  );

before(async () => {
  ({ us, eu } = await mesh());
  both = [us, eu];
  ns = await namespace(name);
  for (const each of both) {
    await each.apply(serverPod(`${each.name}-client`), name);
    await each.apply(serverPod(`${each.name}-web`, { labels: { app: 'web' } }), name);
    await each.apply(serviceFor('web'), name);
    await ready(each, name, `${each.name}-client`, `${each.name}-web`);
  }
});
after(() => ns?.[Symbol.asyncDispose]());

test('what Cilium exports Isthmus imports, and the other way round', async () => {
  await eu.apply(serviceExport, name);
  await answers('eu-web', 'eu');
  await us.apply(serviceExport, name);
  await answers('eu-web us-web', 'eu', 'us');
  await eu.kubectl('-n', name, 'delete', 'serviceexport', 'web');
  await answers('us-web', 'us');
});

test('a conflict is the same in both', async () => {
  await eu.apply(serviceExport, name);
  await imported(us, 'eu', 'us');
  await eu.kubectl('-n', name, 'patch', 'service', 'web', '-p', '{"spec":{"sessionAffinity":"ClientIP"}}');
  for (const each of both) await conflict(each, 'True SessionAffinityConflict');
  await eu.kubectl('-n', name, 'patch', 'service', 'web', '-p', '{"spec":{"sessionAffinity":"None"}}');
  for (const each of both) await conflict(each, 'False NoConflicts');
});

test('unexported, the import goes in both', async () => {
  for (const each of both) await each.kubectl('-n', name, 'delete', 'serviceexport', 'web');
  for (const each of both)
    await eventually(
      `no import in ${each.name}`,
      async () => (await each.kubectl('-n', name, 'get', 'serviceimports', '-o', 'name')).trim() === '',
      60,
    );
});
