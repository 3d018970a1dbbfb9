import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import * as z from 'zod';
import { clusterStatus, isWell } from '../../src/cli/cluster-status.ts';
import { chartFolder, installedValues } from '../../src/cli/helm.ts';
import { cleanNodesAsHook, installIsthmus, uninstallIsthmus, upgradeIsthmus } from '../../src/cli/install.ts';
import type { ClusterChoice } from '../../src/cli/kubeconfig.ts';
import { Failure } from '../../src/failure.ts';
import { ensureBinaries } from '../../src/lab/binaries.ts';
import { LocalApiServer, missingBinaries } from '../kube/local-api-server.ts';
import { helmPath } from './rendering.ts';

/** A real API server without controllers: objects are accepted and kept, no pod ever runs. */
const skip = missingBinaries();
let api: LocalApiServer;
let cluster: ClusterChoice;
const lines: string[] = [];
const report = (line: string) => void lines.push(line);
const set = ['cluster.id=1', 'clustermesh.useAPIServer=true'];

before(async () => {
  if (skip) return;
  api = await LocalApiServer.start();
  const kubeconfig = api.kubeconfig('isthmus-us');
  cluster = { context: 'isthmus-us', kubeconfig, namespace: 'kube-system' };
});
after(() => api?.[Symbol.asyncDispose]());

test('install', { skip }, async t => {
  const admin = api.client('admin');

  await t.test('an API server that only this machine reaches is not handed to the nodes', async () => {
    await assert.rejects(installIsthmus({ cluster, values: { set }, report }), (error: unknown) => {
      assert.ok(error instanceof Failure);
      assert.match(error.message, /reached only from this machine/);
      assert.match(error.hint ?? '', /--set k8sServiceHost/);
      return true;
    });
  });

  await t.test('status of a cluster without Isthmus says so', async () => {
    await assert.rejects(clusterStatus(admin, cluster), /not installed in namespace kube-system/);
  });

  await t.test('a wrong value is named before anything is changed', async () => {
    const values = { set: [...set, 'k8sServiceHost=172.18.1.2', 'cluster.id=700'] };
    await assert.rejects(
      installIsthmus({ cluster, values, report }),
      /cluster\.id: maximum: got 700, want 511/,
    );
  });

  await t.test('the address is read from kube-public/cluster-info', async () => {
    await publish(api, 'https://172.18.1.2:6443');
    await installIsthmus({ cluster, values: { set }, report });
    assert.ok(lines.includes('ℹ️  Using cluster name "us", id 1'), lines.join('\n'));
    assert.ok(lines.some(line => /172\.18\.1\.2:6443 \(from kube-public\/cluster-info\)/.test(line)));
    assert.equal(await environment(api, 'KUBERNETES_SERVICE_HOST'), '172.18.1.2');
    assert.equal(await environment(api, 'KUBERNETES_SERVICE_PORT'), '6443');
  });

  await t.test('the notes say how to go on', async () => {
    const on = ['--kubeconfig', cluster.kubeconfig!, '--namespace', 'kube-system'];
    const { stdout } = await promisify(execFile)(await helmPath(), ['get', 'notes', 'isthmus', ...on]);
    assert.match(stdout, /every node of cluster us \(id 1\)/);
    assert.match(stdout, /isthmus status --wait/);
    assert.match(stdout, /exports itself to others by the Service clustermesh-apiserver \(NodePort\)/);
  });

  await t.test('a second install points to upgrade', async () => {
    await assert.rejects(installIsthmus({ cluster, values: { set }, report }), (error: unknown) => {
      return error instanceof Failure && /isthmus upgrade/.test(error.hint ?? '');
    });
  });

  await t.test('an upgrade keeps what was set, and no secret changes', async () => {
    // As the operator makes them; Helm must not know them.
    await admin.create('/api/v1/namespaces/kube-system/secrets', {
      metadata: { name: 'isthmus-ca' },
      data: { 'ca.crt': 'Zm9v' },
    });
    const [secrets, agent] = [await versions(api, 'secrets'), await generation(api)];
    await upgradeIsthmus({ cluster, report });
    await upgradeIsthmus({
      cluster,
      values: { set: ['clustermesh.apiserver.service.type=ClusterIP'] },
      report,
    });
    assert.deepEqual(await versions(api, 'secrets'), secrets);
    assert.equal(await generation(api), agent, 'the DaemonSet was changed');
    assert.equal(await environment(api, 'KUBERNETES_SERVICE_HOST'), '172.18.1.2');
    const service = z.object({ spec: z.object({ type: z.string() }) });
    const { spec } = await admin.get(
      '/api/v1/namespaces/kube-system/services/clustermesh-apiserver',
      service,
    );
    assert.equal(spec.type, 'ClusterIP');
    assert.deepEqual(await installedValues({ cluster, report }), {
      cluster: { id: 1, name: 'us' },
      clustermesh: { useAPIServer: true, apiserver: { service: { type: 'ClusterIP' } } },
      k8sServiceHost: '172.18.1.2',
      k8sServicePort: 6443,
      operator: { replicas: 1 },
    });
  });

  await t.test(
    'helm template | kubectl apply changes no secret, and k8sServiceHost: auto asks the cluster',
    async () => {
      const secrets = await versions(api, 'secrets');
      const { kubectl } = await ensureBinaries(['kubectl'], { report });
      const helm = await helmPath();
      const on = ['--kubeconfig', cluster.kubeconfig!];
      const wanted = [...set, 'cluster.name=us'].flatMap(each => ['--set', each]);
      const rendered = await promisify(execFile)(helm, [
        ...[
          'template',
          'isthmus',
          chartFolder,
          '--namespace',
          'kube-system',
          '--validate',
          '--is-upgrade',
          '--dry-run=server',
        ],
        ...[...on, ...wanted],
      ]);
      const file = join(dirname(cluster.kubeconfig!), 'manifest.yaml');
      writeFileSync(file, rendered.stdout);
      await promisify(execFile)(kubectl, [...on, 'apply', '--server-side', '--force-conflicts', '-f', file]);
      assert.deepEqual(await versions(api, 'secrets'), secrets);
      assert.equal(await environment(api, 'KUBERNETES_SERVICE_HOST'), '172.18.1.2');
      // The Job that belongs before an uninstall is among it, and knows that this is none.
      await cleanNodesAsHook('isthmus-clean-nodes', { cluster, report });
      assert.match(lines.at(-1) ?? '', /was not made by Helm: nothing is uninstalled/);
    },
  );

  await t.test('each daemon has the rights it needs and not those of another', async () => {
    const agent = api.client('agent');
    const operator = api.client('operator');
    const list = z.object({ items: z.array(z.unknown()) });
    for (const path of ['/api/v1/services', '/api/v1/pods', '/apis/discovery.k8s.io/v1/endpointslices'])
      await agent.get(path, list);
    await assert.rejects(agent.get('/api/v1/namespaces/kube-system/secrets/isthmus-ca', z.unknown()), /403/);
    await assert.rejects(agent.delete('/api/v1/namespaces/default/pods/any'), /403/);
    await operator.get('/api/v1/namespaces/kube-system/secrets/isthmus-ca', z.unknown());
    await assert.rejects(operator.get('/api/v1/namespaces/kube-system/secrets/other', z.unknown()), /403/);
    await assert.rejects(operator.get('/api/v1/secrets', list), /403/);
  });

  await t.test('status shows what is missing', async () => {
    const status = await clusterStatus(admin, cluster);
    assert.equal(isWell(status), false);
    assert.deepEqual(status.cluster, { name: 'us', id: 1 });
    assert.deepEqual(
      status.components.map(each => [each.name, each.enabled, each.ready]),
      [
        ['isthmus-agent', true, 0],
        ['isthmus-operator', true, 0],
        ['clustermesh-apiserver', true, 0],
      ],
    );
    // No controller has looked at them yet, so nothing is known to be wrong.
    assert.deepEqual(status.errors, []);
  });

  await t.test('a reset takes what a file says before what is found', async () => {
    const file = join(dirname(cluster.kubeconfig!), 'values.yaml');
    writeFileSync(file, 'cluster: {name: home, id: 7}\noperator: {replicas: 3}\n');
    await upgradeIsthmus({ cluster, values: { files: [file] }, resetValues: true, report });
    assert.ok(lines.includes('ℹ️  Using cluster name "home", id 7'), lines.join('\n'));
    const deployment = z.object({ spec: z.object({ replicas: z.number() }) });
    const path = '/apis/apps/v1/namespaces/kube-system/deployments/isthmus-operator';
    assert.equal((await admin.get(path, deployment)).spec.replicas, 3);
    assert.deepEqual((await clusterStatus(admin, cluster)).cluster, { name: 'home', id: 7 });
  });

  await t.test('uninstall leaves only what the next install goes on with', async () => {
    await uninstallIsthmus({ cluster, report });
    await assert.rejects(clusterStatus(admin, cluster), /not installed/);
    assert.deepEqual(
      (await versions(api, 'secrets')).map(([name]) => name).filter(name => !/^sh\.helm/.test(name)),
      ['isthmus-ca'],
    );
  });
});

const List = z.object({
  items: z.array(z.object({ metadata: z.object({ name: z.string(), resourceVersion: z.string() }) })),
});

async function versions(server: LocalApiServer, resource: string): Promise<(readonly [string, string])[]> {
  const { items } = await server.client('admin').get(`/api/v1/namespaces/kube-system/${resource}`, List);
  return items
    .map(each => [each.metadata.name, each.metadata.resourceVersion] as const)
    .filter(([name]) => !name.startsWith('sh.helm.release.'));
}

const Workload = z.object({
  metadata: z.object({ generation: z.number() }),
  spec: z.object({
    template: z.object({
      spec: z.object({
        containers: z.array(
          z.object({ env: z.array(z.object({ name: z.string(), value: z.string().optional() })) }),
        ),
      }),
    }),
  }),
});
const agentPath = '/apis/apps/v1/namespaces/kube-system/daemonsets/isthmus';

async function generation(server: LocalApiServer): Promise<number> {
  return (await server.client('admin').get(agentPath, Workload)).metadata.generation;
}

async function environment(server: LocalApiServer, name: string): Promise<string | undefined> {
  const { spec } = await server.client('admin').get(agentPath, Workload);
  return spec.template.spec.containers[0]!.env.find(each => each.name === name)?.value;
}

/** Writes what kubeadm writes for joining nodes. */
async function publish(server: LocalApiServer, address: string): Promise<void> {
  const kubeconfig = JSON.stringify({ clusters: [{ name: '', cluster: { server: address } }] });
  const admin = server.client('admin');
  await admin.apply('/api/v1/namespaces/kube-public', {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: 'kube-public' },
  });
  await admin.apply('/api/v1/namespaces/kube-public/configmaps/cluster-info', {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'cluster-info' },
    data: { kubeconfig },
  });
}
