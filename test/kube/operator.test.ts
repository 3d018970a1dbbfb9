import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import * as z from 'zod';
import { identityObject } from '../../src/api/crds/cilium-identity.ts';
import type { KubeClient } from '../../src/kube/client.ts';
import { AnyObject, conditionOf, Node } from '../../src/kube/objects.ts';
import { pathOf, type Resource, resources, typeOf } from '../../src/kube/resource.ts';
import { isForbidden, isNotFound } from '../../src/kube/status.ts';
import { parseOperatorConfig } from '../../src/operator/config.ts';
import { installDefinitions } from '../../src/operator/crds.ts';
import { runDuties } from '../../src/operator/duties.ts';
import { removeMeshSlices } from '../../src/operator/remove-mesh-slices.ts';
import { plain, render } from '../chart/rendering.ts';
import { LocalApiServer, missingBinaries, until } from './local-api-server.ts';

const skip = missingBinaries() ?? false;
const taint = 'node.cilium.io/agent-not-ready';
const stop = new AbortController();
let api: LocalApiServer;
let admin: KubeClient;
let duties: Promise<void>;

/** The operator does its work with the rights the chart gives it, and no others. */
before(async () => {
  if (skip) return;
  api = await LocalApiServer.start();
  admin = api.client('admin');
  for (const object of await render(plain))
    if (/^(Cluster)?Role(Binding)?$/.test(object.kind)) {
      const { name, namespace } = object.metadata;
      const plural = `${object.kind.toLowerCase()}s`;
      const scope = namespace ? `/namespaces/${namespace}` : '';
      await admin.apply(`/apis/rbac.authorization.k8s.io/v1${scope}/${plural}/${name}`, object);
    }
  duties = runDuties({
    client: api.client('operator', 'isthmus-operator'),
    namespace: 'kube-system',
    signal: stop.signal,
    config: parseOperatorConfig({
      'cluster-name': 'us',
      'cluster-id': '1',
      'identity-gc-interval': '100ms',
      'identity-heartbeat-timeout': '300ms',
      'cilium-endpoint-gc-interval': '100ms',
      'nodes-gc-interval': '100ms',
    }),
  });
  await installDefinitions(admin, { signal: stop.signal });
});
after(async () => {
  stop.abort();
  await duties;
  await api?.[Symbol.asyncDispose]();
});

const exists = (of: Resource, where: { namespace?: string; name: string }) =>
  admin.get(pathOf(of, where), AnyObject).then(
    object => object.metadata,
    error => {
      if (isNotFound(error)) return undefined;
      throw error;
    },
  );

async function createPod(namespace: string, name: string, node: string, labels = {}): Promise<string> {
  const pod = {
    ...typeOf(resources.pods),
    metadata: { name, namespace, labels },
    spec: { nodeName: node, containers: [{ name: 'c', image: 'pause' }] },
  };
  const created = await admin.create(pathOf(resources.pods, { namespace }), pod);
  return AnyObject.parse(created).metadata.uid;
}

test('a node is opened for pods when its agent is ready, not before', { skip, timeout: 30_000 }, async () => {
  const taints = [
    { key: 'other', effect: 'NoSchedule' },
    { key: taint, effect: 'NoExecute' },
  ];
  for (const name of ['n1', 'n2'])
    await admin.create(pathOf(resources.nodes), {
      ...typeOf(resources.nodes),
      metadata: { name },
      spec: { taints },
    });
  for (const node of ['n1', 'n2'])
    await createPod('kube-system', `isthmus-${node}`, node, { 'k8s-app': 'isthmus' });
  await admin.patch(
    pathOf(resources.pods, { namespace: 'kube-system', name: 'isthmus-n1', subresource: 'status' }),
    'strategic',
    { status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] } },
  );
  const read = (name: string) => admin.get(pathOf(resources.nodes, { name }), Node);
  await until('n1 is open', async () => !(await read('n1')).spec.taints?.some(each => each.key === taint));
  const open = await read('n1');
  assert.deepEqual(
    open.spec.taints?.map(each => each.key).filter(key => key === 'other'),
    ['other'],
  );
  assert.equal(conditionOf(open, 'NetworkUnavailable')?.status, 'False');
  assert.equal(conditionOf(open, 'NetworkUnavailable')?.reason, 'IsthmusIsUp');
  const shut = await read('n2');
  assert.ok(shut.spec.taints?.some(each => each.key === taint));
  assert.equal(conditionOf(shut, 'NetworkUnavailable'), undefined);
});

test('what has no owner goes, what is used stays', { skip, timeout: 30_000 }, async () => {
  const agent = api.client('agent');
  const labels = (app: string) => ({ 'k8s:app': app, 'k8s:io.kubernetes.pod.namespace': 'default' });
  const identities = pathOf(resources.ciliumIdentities);
  await agent.create(identities, identityObject(70_001, labels('used')));
  await agent.create(identities, identityObject(70_002, labels('unused')));
  await agent.create(identities, identityObject(140_001, labels('of-another-cluster')));
  const uid = await createPod('default', 'web', 'n1');
  const endpoint = (name: string, podUid: string) =>
    agent.apply(pathOf(resources.ciliumEndpoints, { namespace: 'default', name }), {
      ...typeOf(resources.ciliumEndpoints),
      metadata: {
        name,
        namespace: 'default',
        ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name, uid: podUid }],
      },
      status: {
        id: 7,
        identity: { id: 70_001, labels: ['k8s:app=used'] },
        networking: { addressing: [{ ipv4: '10.1.0.7' }], node: '172.18.1.2' },
        state: 'ready',
      },
    });
  await endpoint('web', uid);
  await endpoint('gone', '00000000-0000-0000-0000-000000000000');
  for (const name of ['n1', 'n9'])
    await agent.apply(pathOf(resources.ciliumNodes, { name }), {
      ...typeOf(resources.ciliumNodes),
      metadata: { name },
      spec: { addresses: [{ type: 'InternalIP', ip: '172.18.1.2' }] },
    });
  await until(
    'endpoint collected',
    async () => !(await exists(resources.ciliumEndpoints, { namespace: 'default', name: 'gone' })),
  );
  await until('node collected', async () => !(await exists(resources.ciliumNodes, { name: 'n9' })));
  await until(
    'identity collected',
    async () => !(await exists(resources.ciliumIdentities, { name: '70002' })),
  );
  assert.ok(await exists(resources.ciliumEndpoints, { namespace: 'default', name: 'web' }));
  assert.ok(await exists(resources.ciliumNodes, { name: 'n1' }));
  const used = await exists(resources.ciliumIdentities, { name: '70001' });
  assert.equal(used?.annotations, undefined);
  const foreign = await exists(resources.ciliumIdentities, { name: '140001' });
  assert.equal(foreign?.annotations, undefined);
});

test('an agent may not change nodes', { skip }, async () => {
  const patch = { metadata: { labels: { a: 'b' } } };
  await assert.rejects(
    api.client('agent').patch(pathOf(resources.nodes, { name: 'n1' }), 'merge', patch),
    error => isForbidden(error),
  );
});

test('slices of other clusters go where nobody keeps them any more; all others stay', { skip }, async () => {
  const slices = pathOf(resources.endpointSlices, { namespace: 'default' });
  for (const [name, by] of [
    ['db-eu-00000', 'endpointslice-mesh-controller.cilium.io'],
    ['db-abcde', 'endpointslice-controller.k8s.io'],
  ])
    await admin.create(slices, {
      ...typeOf(resources.endpointSlices),
      metadata: { name, labels: { 'endpointslice.kubernetes.io/managed-by': by } },
      addressType: 'IPv4',
      endpoints: [],
    });
  assert.equal(await removeMeshSlices(api.client('operator')), 1);
  assert.equal(
    await exists(resources.endpointSlices, { namespace: 'default', name: 'db-eu-00000' }),
    undefined,
  );
  assert.ok(await exists(resources.endpointSlices, { namespace: 'default', name: 'db-abcde' }));
});

test('kubectl shows the columns of Cilium', { skip }, async () => {
  const accept = 'application/json;as=Table;g=meta.k8s.io;v=v1';
  const table = z.object({
    columnDefinitions: z.array(z.object({ name: z.string() })),
    rows: z.array(z.object({ cells: z.array(z.unknown()) })),
  });
  const path = pathOf(resources.ciliumEndpoints, { namespace: 'default' });
  const { columnDefinitions, rows } = await admin.get(path, table, { accept });
  const shown = Object.fromEntries(columnDefinitions.map(({ name }, at) => [name, rows[0]?.cells[at]]));
  assert.equal(shown['Security Identity'], 70_001);
  assert.equal(shown.IPv4, '10.1.0.7');
});
