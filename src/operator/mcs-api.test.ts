import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ServiceExport, ServiceExportObject, toServiceExport } from '../api/crds/service-export.ts';
import { type ServiceImport, ServiceImportObject, toServiceImport } from '../api/crds/service-import.ts';
import { type EndpointSlice, endpointSliceTable } from '../api/endpoint-slice.ts';
import { serviceKey } from '../api/service.ts';
import { remoteTables } from '../clustermesh/rows.ts';
import { mcsResources } from '../kube/resource.ts';
import { derivedName } from '../mcsapi/derived-name.ts';
import type { ExportedService } from '../mcsapi/exported-service.ts';
import { mergeExports } from '../mcsapi/merge-exports.ts';
import { settled } from '../table/settled.fixture.ts';
import { Table } from '../table/table.ts';
import {
  deriveMcsFixes,
  exportVerdicts,
  type MirroredSlice,
  mirroredSliceSchema,
  mirroredSliceTable,
  type OwnedService,
  ownedServiceSchema,
  toMirroredSlice,
  toOwnedService,
} from './mcs-api.ts';
import type { ObjectFix } from './object-fixes.ts';

const derived = derivedName('bank', 'ledger');

/** Cluster us as its operator knows it, and an API server that does what it is told and gives out addresses. */
class World {
  readonly services = new Table<OwnedService>({ name: 'services', keyOf: serviceKey });
  readonly serviceExports = new Table<ServiceExport>({ name: 'exports', keyOf: serviceKey });
  readonly imports = new Table<ServiceImport>({ name: 'imports', keyOf: serviceKey });
  readonly slices = new Table<EndpointSlice>(endpointSliceTable);
  readonly mirrored = new Table<MirroredSlice>(mirroredSliceTable);
  readonly namespaces = new Table<{ readonly name: string; readonly global: boolean }>({
    name: 'namespaces',
    keyOf: row => row.name,
  });
  readonly remote = remoteTables();
  readonly fixes = deriveMcsFixes(this, {
    cluster: 'us',
    families: ['IPv4'],
    exporting: true,
    api: mcsResources('v1beta1'),
  });
  /** Objects as applied, by kind and name. */
  readonly objects = new Map<string, ReturnType<typeof merged>>();
  readonly events: string[] = [];
  #uids = 0;

  constructor() {
    this.namespaces.upsert({ name: 'bank', global: true });
  }

  service(spec: object = {}, name = 'ledger'): void {
    const object = {
      metadata: { name, namespace: 'bank', uid: `uid-${name}` },
      spec: {
        clusterIP: '10.96.0.7',
        ports: [{ name: 'grpc', port: 9000 }],
        ipFamilies: ['IPv4'],
        ...spec,
      },
    };
    this.services.upsert(toOwnedService(ownedServiceSchema.parse(object)));
  }

  export(created = '2026-02-03T04:05:06Z', spec: object = {}): void {
    this.#take('ServiceExport', {
      metadata: { name: 'ledger', namespace: 'bank', uid: 'uid-export', creationTimestamp: created },
      spec,
    });
  }

  remoteExport(cluster: string, change: Partial<ExportedService> = {}): void {
    this.remote.serviceExports.upsert({
      cluster,
      namespace: 'bank',
      name: 'ledger',
      created: '2026-02-03T04:05:07Z',
      ports: [{ name: 'grpc', protocol: 'TCP', appProtocol: '', port: 9000 }],
      type: 'ClusterSetIP',
      sessionAffinity: 'None',
      affinityTimeout: undefined,
      ipFamilies: ['IPv4'],
      internalTrafficPolicy: 'Cluster',
      trafficDistribution: undefined,
      labels: {},
      annotations: {},
      ...change,
    });
  }

  slice(name: string, port: string, ...addresses: string[]): void {
    this.slices.upsert({
      namespace: 'bank',
      name,
      service: 'bank/ledger',
      addressType: 'IPv4',
      ports: [{ name: port, protocol: 'TCP', port: 8080 }],
      endpoints: addresses.map(address => ({
        address,
        ready: true,
        serving: true,
        terminating: false,
        node: 'us-worker',
        hostname: '',
        zone: 'a',
        forZones: [],
        forNodes: [],
      })),
    });
  }

  /** Applies fixes until there are none; gives what was done in each round, in short. */
  async settle(): Promise<string[]> {
    const done: string[] = [];
    for (let round = 0; round < 10; round++) {
      await settled();
      const fixes = [...this.fixes.values()];
      if (fixes.length === 0) return done;
      for (const fix of fixes) done.push(this.#apply(fix));
    }
    throw new Error(`it does not come to rest: ${JSON.stringify([...this.fixes.values()])}`);
  }

  conditions(kind = 'ServiceExport'): string[] {
    const object = this.objects.get(`${kind} ledger`);
    return (object?.status?.conditions ?? []).map(each => `${each.type}=${each.status} ${each.reason}`);
  }

  #apply({ path, apply, conditions, event }: ObjectFix): string {
    const kinds: Record<string, string> = {
      services: 'Service',
      endpointslices: 'EndpointSlice',
      serviceimports: 'ServiceImport',
      serviceexports: 'ServiceExport',
    };
    const [, plural = '', name = '', status] =
      /namespaces\/bank\/(\w+)\/([^/]+)(\/status)?$/.exec(path) ?? [];
    const kind = kinds[plural]!;
    if (event)
      this.events.push(`${event.subject.kind} ${event.subject.name} ${event.reason}: ${event.message}`);
    if (!apply) {
      this.objects.delete(`${kind} ${name}`);
      this.#table(kind).delete(`bank/${name}`);
      return `remove ${kind} ${name}`;
    }
    this.#take(kind, conditions ? { ...apply, status: { ...apply.status, conditions } } : apply);
    return `${status ? 'status of' : 'apply'} ${kind} ${name}`;
  }

  #take(kind: string, change: object): void {
    const { name } = (change as { metadata: { name: string } }).metadata;
    const object = merged(this.objects.get(`${kind} ${name}`), change, () => `uid-${++this.#uids}`);
    if (kind === 'Service' && !object.spec?.clusterIP)
      object.spec = { ...object.spec, clusterIP: '10.96.9.9', clusterIPs: ['10.96.9.9'] };
    this.objects.set(`${kind} ${name}`, object);
    if (kind === 'Service') this.services.upsert(toOwnedService(ownedServiceSchema.parse(object)));
    else if (kind === 'ServiceImport')
      this.imports.upsert(toServiceImport(ServiceImportObject.parse(object))!);
    else if (kind === 'ServiceExport')
      this.serviceExports.upsert(toServiceExport(ServiceExportObject.parse(object))!);
    else this.mirrored.upsert(toMirroredSlice(mirroredSliceSchema.parse(object))!);
  }

  #table(kind: string): Table<never> {
    const tables = {
      Service: this.services,
      ServiceImport: this.imports,
      ServiceExport: this.serviceExports,
      EndpointSlice: this.mirrored,
    };
    return tables[kind as 'Service'] as unknown as Table<never>;
  }
}

interface Some {
  metadata: { name: string; namespace: string; uid: string; labels?: object; annotations?: object };
  spec?: Record<string, unknown>;
  status?: { conditions?: { type: string; status: string; reason: string }[]; clusters?: object[] };
}

function merged(before: Some | undefined, change: object, uid: () => string): Some {
  const after = change as Some;
  return {
    ...before,
    ...after,
    metadata: { ...after.metadata, uid: before?.metadata.uid ?? after.metadata.uid ?? uid() },
    ...((after.spec ?? before?.spec) ? { spec: after.spec ?? before!.spec! } : {}),
    ...((after.status ?? before?.status) ? { status: after.status ?? before!.status! } : {}),
    ...(after.spec ? {} : before ? { metadata: before.metadata } : {}),
  };
}

test('a service exported elsewhere is imported: import, derived Service, address, Ready', async () => {
  const us = new World();
  us.remoteExport('eu');
  const done = await us.settle();
  assert.deepEqual(done.slice(0, 2), ['apply ServiceImport ledger', `apply Service ${derived}`]);
  assert.equal(done.length, 5);
  const { metadata, spec, status } = us.objects.get('ServiceImport ledger')!;
  assert.deepEqual(metadata.annotations, { 'multicluster.kubernetes.io/derived-service': derived });
  assert.deepEqual(spec, {
    type: 'ClusterSetIP',
    ports: [{ name: 'grpc', protocol: 'TCP', port: 9000 }],
    ips: ['10.96.9.9'],
    ipFamilies: ['IPv4'],
    sessionAffinity: 'None',
    internalTrafficPolicy: 'Cluster',
  });
  assert.deepEqual(status?.clusters, [{ cluster: 'eu' }]);
  assert.deepEqual(us.conditions('ServiceImport'), ['Ready=True Ready']);
  const service = us.objects.get(`Service ${derived}`)!;
  assert.deepEqual(service.metadata.annotations, { 'service.cilium.io/global': 'true' });
  assert.deepEqual(service.metadata.labels, { 'multicluster.kubernetes.io/service-name': 'ledger' });
});

test('nothing is made in a namespace that is not there, and all once it is', async () => {
  const us = new World();
  us.namespaces.delete('bank');
  us.remoteExport('eu');
  assert.deepEqual(await us.settle(), []);
  us.namespaces.upsert({ name: 'bank', global: true });
  assert.equal((await us.settle()).length, 5);
});

test('an own export: conditions, and slices of the derived Service with the import’s names of ports', async () => {
  const us = new World();
  us.service();
  us.export();
  us.slice('ledger-abcde', 'grpc', '10.1.0.7');
  await us.settle();
  assert.deepEqual(us.conditions(), ['Valid=True Valid', 'Ready=True Ready', 'Conflict=False NoConflicts']);
  const [slice] = us.mirrored.values();
  assert.match(slice!.name, new RegExp(`^${derived}-[0-9a-f]{10}$`));
  assert.deepEqual(slice!.labels, {
    'multicluster.kubernetes.io/service-name': 'ledger',
    'multicluster.kubernetes.io/source-cluster': 'us',
    'kubernetes.io/service-name': derived,
    'endpointslice.kubernetes.io/managed-by': 'endpointslice-local-mcsapi-controller.cilium.io',
  });
  assert.deepEqual(slice!.slice.endpoints[0]?.node, 'us-worker');
  us.slice('ledger-abcde', 'grpc', '10.1.0.7', '10.1.0.8');
  assert.deepEqual(await us.settle(), [`apply EndpointSlice ${slice!.name}`]);
  us.slices.delete('bank/ledger-abcde');
  assert.deepEqual(await us.settle(), [`remove EndpointSlice ${slice!.name}`]);

  // An older export has another name for the same port: our endpoints are found under it.
  us.slice('ledger-abcde', 'grpc', '10.1.0.7');
  us.remoteExport('eu', {
    created: '2025-01-01T00:00:00Z',
    ports: [{ name: 'api', protocol: 'TCP', appProtocol: '', port: 9000 }],
  });
  await us.settle();
  assert.deepEqual([...us.mirrored.values()][0]?.slice.ports, [{ name: 'api', protocol: 'TCP', port: 8080 }]);
  assert.equal(us.conditions()[2], 'Conflict=True PortConflict');
  // Another number under the same name: nobody who asks for the older one's must get ours.
  us.remoteExport('eu', {
    created: '2025-01-01T00:00:00Z',
    ports: [{ name: 'grpc', protocol: 'TCP', appProtocol: '', port: 9001 }],
  });
  await us.settle();
  assert.equal(us.mirrored.size, 0);
});

test('exports that are none: conditions and an event say why', async () => {
  const us = new World();
  us.export();
  await us.settle();
  assert.deepEqual(us.conditions(), ['Valid=False NoService', 'Ready=False Pending']);
  us.service({ type: 'ExternalName', clusterIP: '' });
  await us.settle();
  assert.deepEqual(us.conditions(), ['Valid=False InvalidServiceType', 'Ready=False Pending']);
  assert.equal(us.imports.size, 0);
  us.service();
  await us.settle();
  assert.deepEqual(us.conditions(), ['Valid=True Valid', 'Ready=True Ready', 'Conflict=False NoConflicts']);
  assert.deepEqual(us.events, [
    'ServiceExport ledger NoService: there is no Service of this name in this namespace',
    'ServiceExport ledger InvalidServiceType: spec.type of the Service: found ExternalName, expected a Service with endpoints',
  ]);
});

test('a conflict is shown with its reason, told once, and taken back', async () => {
  const us = new World();
  us.service();
  us.export();
  await us.settle();
  us.remoteExport('eu', { type: 'Headless' });
  await us.settle();
  assert.equal(us.conditions()[2], 'Conflict=True TypeConflict');
  assert.deepEqual(us.events, [
    'ServiceExport ledger TypeConflict: type: "ClusterSetIP" of the oldest export, that of us, is in force; 1 of 2 clusters have another: eu',
  ]);
  us.remoteExport('eu');
  await us.settle();
  assert.equal(us.conditions()[2], 'Conflict=False NoConflicts');
});

test('nobody exports it any more: nothing is left', async () => {
  const us = new World();
  us.service();
  us.export();
  us.slice('ledger-abcde', 'grpc', '10.1.0.7');
  us.remoteExport('eu');
  await us.settle();
  us.serviceExports.delete('bank/ledger');
  await us.settle();
  assert.deepEqual([us.imports.size, us.mirrored.size, us.services.size], [1, 0, 2]);
  us.remote.serviceExports.delete('eu/bank/ledger');
  assert.deepEqual(await us.settle(), ['remove ServiceImport ledger', `remove Service ${derived}`]);
  assert.deepEqual([us.imports.size, us.mirrored.size, us.services.size], [0, 0, 1]);
});

test('an operator that starts anew leaves imports of clusters alone that it has not heard yet', async () => {
  const us = new World();
  us.service();
  us.export();
  us.remoteExport('eu', { created: '2025-01-01T00:00:00Z', trafficDistribution: 'PreferClose' });
  await us.settle();
  us.remote.pending.upsert({ cluster: 'eu' });
  us.remote.serviceExports.delete('eu/bank/ledger');
  assert.deepEqual(await us.settle(), []);
  us.remote.pending.delete('eu');
  assert.ok((await us.settle()).length > 0);
  assert.equal(us.objects.get('ServiceImport ledger')?.spec?.trafficDistribution, undefined);
});

test('headless becomes ClusterSetIP: another derived Service, an address', async () => {
  const us = new World();
  us.remoteExport('eu', { type: 'Headless' });
  await us.settle();
  assert.deepEqual(us.objects.get('ServiceImport ledger')?.spec?.ips, []);
  assert.equal(us.objects.get(`Service ${derived}`)?.spec?.clusterIP, 'None');
  us.remoteExport('eu');
  const done = await us.settle();
  assert.ok(done.indexOf(`remove Service ${derived}`) < done.indexOf(`apply Service ${derived}`));
  assert.deepEqual(us.objects.get('ServiceImport ledger')?.spec?.ips, ['10.96.9.9']);
});

test('a family that this cluster does not have: no address, and the reason', async () => {
  const us = new World();
  us.remoteExport('eu', { ipFamilies: ['IPv6'] });
  await us.settle();
  assert.deepEqual(us.conditions('ServiceImport'), ['Ready=False IPFamilyNotSupported']);
  assert.equal(us.services.size, 0);
  us.remoteExport('eu', { ipFamilies: ['IPv4', 'IPv6'] });
  await us.settle();
  assert.deepEqual(us.conditions('ServiceImport'), ['Ready=True Ready']);
  assert.deepEqual(us.objects.get('ServiceImport ledger')?.spec?.ipFamilies, ['IPv4']);
  us.remoteExport('eu', { ipFamilies: ['IPv6'] });
  await us.settle();
  assert.equal(us.services.size, 0);
});

test('labels and annotations that are exported are on import and derived Service', async () => {
  const us = new World();
  us.service();
  us.export(undefined, {
    exportedLabels: { team: 'money' },
    exportedAnnotations: { 'service.cilium.io/affinity': 'local' },
  });
  await us.settle();
  assert.deepEqual(us.objects.get('ServiceImport ledger')?.metadata.labels, { team: 'money' });
  assert.deepEqual(us.objects.get(`Service ${derived}`)?.metadata.annotations, {
    'service.cilium.io/affinity': 'local',
    'service.cilium.io/global': 'true',
  });
});

test('a cluster that exports nothing says so', () => {
  const us = new World();
  us.service();
  us.remoteExport('eu');
  const merged = mergeExports(us.remote.serviceExports.values());
  const of = (exporting: boolean): string[] =>
    exportVerdicts({ service: us.services.get('bank/ledger'), isGlobal: true }, merged, exporting).map(
      each => `${each.type}=${each.status}`,
    );
  assert.deepEqual(of(true), ['Valid=True', 'Ready=True', 'Conflict=False']);
  assert.deepEqual(of(false), ['Valid=True', 'Ready=False', 'Conflict=False']);
});

test('a namespace that is not global exports nothing and imports nothing, and both say so', async () => {
  const us = new World();
  us.service();
  us.export();
  us.remoteExport('eu');
  await us.settle();
  assert.deepEqual(us.conditions('ServiceImport'), ['Ready=True Ready']);
  us.namespaces.upsert({ name: 'bank', global: false });
  await us.settle();
  assert.deepEqual(us.conditions(), ['Valid=False NamespaceNotGlobal', 'Ready=False Pending']);
  assert.deepEqual(us.conditions('ServiceImport'), ['Ready=False NamespaceNotGlobal']);
  assert.ok(!us.objects.has(`Service ${derived}`), 'what the other cluster has is not had here');
  assert.deepEqual(us.objects.get('ServiceImport ledger')?.status?.clusters, [{ cluster: 'eu' }]);
  us.namespaces.upsert({ name: 'bank', global: true });
  await us.settle();
  assert.deepEqual(us.conditions(), ['Valid=True Valid', 'Ready=True Ready', 'Conflict=False NoConflicts']);
  assert.deepEqual(us.conditions('ServiceImport'), ['Ready=True Ready']);
  assert.ok(us.objects.has(`Service ${derived}`));
});
