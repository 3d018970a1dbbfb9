import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isGlobalNamespace, namespaceProblem } from '../api/global-namespace.ts';
import { type Service, serviceKey, serviceSchema, toService } from '../api/service.ts';
import type { EventSubject } from '../kube/events.ts';
import { settled } from '../table/settled.fixture.ts';
import { Table } from '../table/table.ts';
import { BY_NAMESPACE, type ExportNamespace } from './export.ts';
import { deriveFiltered, tellFiltered } from './export-filter.ts';

test('a global service in a namespace that is not global is told, and when it is exported after all', async () => {
  const namespaces = new Table<ExportNamespace>({ name: 'namespaces', keyOf: row => row.name });
  const services = new Table<Service>({
    name: 'services',
    keyOf: serviceKey,
    indexes: { [BY_NAMESPACE]: row => [row.namespace] },
  });
  const filtered = deriveFiltered({ services, namespaces });
  const told: string[] = [];
  const record = ({ kind, namespace = '', name }: EventSubject, reason: string, message: string) =>
    told.push(`${kind} ${namespace}/${name} ${reason}: ${message}`);
  tellFiltered({ services, namespaces }, filtered, { say: record, warn: record });
  const heard = async (): Promise<string[]> => {
    await settled();
    return told.splice(0);
  };
  const namespace = (annotation?: string): void => {
    const annotations = annotation === undefined ? {} : { 'clustermesh.cilium.io/global': annotation };
    const problem = namespaceProblem(annotations);
    namespaces.upsert({
      name: 'dev',
      uid: 'n',
      global: isGlobalNamespace(annotations, true),
      ...(problem === undefined ? {} : { problem }),
    });
  };
  const service = (name: string, annotations: Record<string, string>) =>
    toService(
      serviceSchema.parse({
        metadata: {
          name,
          namespace: 'dev',
          uid: name,
          annotations,
          creationTimestamp: '2026-02-03T04:05:06Z',
        },
        spec: { type: 'ClusterIP', clusterIP: '10.96.0.9', clusterIPs: ['10.96.0.9'], ports: [{ port: 80 }] },
      }),
    );
  const global = { 'service.cilium.io/global': 'true' };
  services.upsert(service('cart', global));
  services.upsert(service('own', {}));
  services.upsert(service('hidden', { ...global, 'service.cilium.io/shared': 'false' }));
  assert.deepEqual(await heard(), [], 'nothing is known of the namespace yet');

  namespace();
  assert.deepEqual(await heard(), []);
  namespace('false');
  assert.deepEqual(await heard(), [
    'Service dev/cart NotExported: other clusters know nothing of it, because its namespace is not global: expected annotation clustermesh.cilium.io/global=true on namespace dev',
  ]);
  assert.equal(filtered.size, 1);
  namespace('yes');
  assert.deepEqual(await heard(), [
    'Namespace /dev InvalidNamespace: annotation clustermesh.cilium.io/global: found "yes", expected true or false; it counts as false',
  ]);
  namespace('True');
  assert.deepEqual(await heard(), ['Service dev/cart Exported: it is exported to other clusters']);
  namespace('false');
  await heard();
  services.delete('dev/cart');
  assert.deepEqual(await heard(), [], 'what is gone is not exported');
  assert.equal(filtered.size, 0);
});
