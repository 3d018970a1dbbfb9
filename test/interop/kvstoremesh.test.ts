/**
 * A real kvstoremesh between two of ours: it reads what Isthmus exports, and Isthmus reads the copy that it made, in
 * meshes of both sizes and with addresses of both families. Needs no cluster: etcds and daemons run on this machine.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { endpointSliceSchema, toEndpointSlice } from '../../src/api/endpoint-slice.ts';
import { allocationRange, type MaxClusters } from '../../src/api/identity-number.ts';
import { serviceSchema, toService } from '../../src/api/service.ts';
import { adminUser, localUser, remoteUser, syncRemoteUsers } from '../../src/clustermesh/access.ts';
import { exportService } from '../../src/clustermesh/export.ts';
import { Exporter } from '../../src/clustermesh/exporter.ts';
import { addressKey, identityKey, type Kind, nodeKey } from '../../src/clustermesh/layout.ts';
import { Mirror } from '../../src/clustermesh/mirror.ts';
import { RemoteClusters } from '../../src/clustermesh/remote-clusters.ts';
import { formatAddress, formatNode } from '../../src/clustermesh/values.ts';
import type { TlsFiles } from '../../src/kvstore/connection.ts';
import { keepSession } from '../../src/kvstore/session.ts';
import type { EtcdRow } from '../../src/kvstore/target.ts';
import { ensureBinaries } from '../../src/lab/binaries.ts';
import { Table } from '../../src/table/table.ts';
import { LocalEtcd } from '../etcd/local-etcd.ts';
import { etcdConfiguration, startKvstoremesh } from './kvstoremesh.ts';

let binaries: Readonly<Record<'etcd' | 'cilium-clustermesh-apiserver', string>>;
before(async () => {
  const report = (line: string): void => console.error(line);
  binaries = await ensureBinaries(['etcd', 'cilium-clustermesh-apiserver'], { report });
});

for (const [max, id] of [
  [255, 255],
  [511, 511],
] as const)
  test(`kvstoremesh copies what Isthmus exports, and Isthmus reads the copy as the original (${max} clusters)`, async () => {
    await using etcd = await LocalEtcd.start('us', binaries.etcd);
    await using home = await LocalEtcd.start('eu', binaries.etcd);
    await using exported = await exporting(etcd, id, max);
    await using _mirror = await kvstoremesh(home, etcd, max);
    const ends = new AbortController();
    using folders = new Folders();
    const reader = (source: LocalEtcd, tls: TlsFiles) =>
      new RemoteClusters({
        folder: folders.with('us', configuration(source, tls)),
        cluster: 'eu',
        clusterId: 2,
        maxClusters: max,
        signal: ends.signal,
      });
    const original = reader(etcd, await etcd.certificate(remoteUser('eu')));
    const copy = reader(home, await home.certificate(localUser('eu')));
    try {
      await become('both are ready', () => [original, copy].every(each => each.status[0]?.ready));
      assert.deepEqual([original.status[0]!.cached, copy.status[0]!.cached], [false, true]);
      assert.equal(copy.status[0]!.clusterId, id);
      for (const each of [original, copy]) {
        assert.deepEqual(each.status[0]!.refused, {});
        assert.deepEqual(each.status[0]!.counts, { nodes: 1, identities: 1, ip: 2, services: 1 });
      }
      assert.deepEqual(contents(copy), contents(original));

      // What changes afterwards comes through as well.
      const [old] = exported.rows.ip.keys();
      const now = address('10.1.0.99', allocationRange(id, max).min);
      exported.rows.ip.upsert(now);
      exported.rows.ip.delete(old!);
      await become('a change arrives', () => copy.tables.endpoints.has('us/10.1.0.99/32'));
      await become('what went is gone', () => copy.tables.endpoints.size === 2);
      assert.deepEqual(contents(copy), contents(original));
    } finally {
      ends.abort();
    }
  });

for (const first of ['ours', 'real'] as const)
  test(`a copy of ${first === 'ours' ? "our mirror's, read by the real kvstoremesh" : "the real kvstoremesh's, read by our mirror"}, is as the original`, async () => {
    await using etcd = await LocalEtcd.start('us', binaries.etcd);
    await using eu = await LocalEtcd.start('eu', binaries.etcd);
    await using ap = await LocalEtcd.start('ap', binaries.etcd);
    await using exported = await exporting(etcd, 1, 255);
    // Copies are for the own cluster's eyes: who reads them is its `local`, also here.
    const [one, two] = [await etcd.certificate(remoteUser('eu')), await eu.certificate(localUser('eu'))];
    await using _near = await (first === 'ours' ? mirror(eu, etcd, one, 2) : kvstoremesh(eu, etcd, 255));
    await using _far = await (first === 'ours'
      ? kvstoremesh(ap, eu, 255, { tls: two, id: 3 })
      : mirror(ap, eu, two, 3));
    const ends = new AbortController();
    using folders = new Folders();
    const reader = (source: LocalEtcd, tls: TlsFiles) =>
      new RemoteClusters({
        folder: folders.with('us', configuration(source, tls)),
        cluster: 'ap',
        clusterId: 3,
        maxClusters: 255,
        signal: ends.signal,
      });
    const original = reader(etcd, one);
    const copy = reader(ap, await ap.certificate(localUser('ap')));
    try {
      await become('both are ready', () => [original, copy].every(each => each.status[0]?.ready));
      assert.equal(copy.status[0]!.cached, true);
      assert.equal(copy.status[0]!.mirror, first === 'ours' ? undefined : 'mirror');
      assert.deepEqual(copy.status[0]!.refused, {});
      assert.equal(original.tables.endpoints.size, 2);
      assert.deepEqual(contents(copy), contents(original));
      exported.rows.ip.upsert(address('10.1.0.99', allocationRange(1, 255).min));
      await become('a change arrives', () => copy.tables.endpoints.has('us/10.1.0.99/32'));
    } finally {
      ends.abort();
    }
  });

/** Writes a cluster of one node, one pod with an address of each family, and a global service into its etcd. */
async function exporting(etcd: LocalEtcd, id: number, max: MaxClusters) {
  const stop = new AbortController();
  const origin = { cluster: 'us', clusterId: id, maxClusters: max };
  const table = () => new Table<EtcdRow>({ name: 'rows', keyOf: each => each.key });
  const rows: Record<Kind, Table<EtcdRow>> = {
    nodes: table(),
    identities: table(),
    ip: table(),
    services: table(),
    serviceexports: table(),
  };
  const identity = allocationRange(id, max).max;
  rows.nodes.upsert({
    key: nodeKey('us', 'us-worker'),
    value: formatNode(
      {
        name: 'us-worker',
        uid: 'u',
        labels: { 'topology.kubernetes.io/zone': 'us-a' },
        annotations: {},
        addresses: [
          { type: 'InternalIP', ip: '172.18.1.3' },
          { type: 'InternalIP', ip: 'fd6c:6162:12:1::3' },
          { type: 'CiliumInternalIP', ip: '10.1.1.1' },
          { type: 'CiliumInternalIP', ip: 'fd00:10:1:1::1' },
        ],
        podCidrs: ['10.1.1.0/24', 'fd00:10:1:1::/64'],
        healthIp: '',
        ingressIp: '',
        encryptionKey: 0,
        bootId: 'b',
      },
      origin,
    ),
  });
  rows.identities.upsert({
    key: identityKey('us', identity),
    value: 'k8s:app=web;k8s:io.cilium.k8s.policy.cluster=us;k8s:io.kubernetes.pod.namespace=shop;',
  });
  for (const each of ['10.1.1.7', 'fd00:10:1:1::7']) rows.ip.upsert(address(each, identity));
  const metadata = { namespace: 'shop', uid: 'u', resourceVersion: '1' };
  const service = serviceSchema.parse({
    metadata: { ...metadata, name: 'web', annotations: { 'service.cilium.io/global': 'true' } },
    spec: {
      clusterIPs: ['10.97.0.9', 'fd00:10:97::9'],
      selector: { app: 'web' },
      ports: [{ name: 'http', port: 80, protocol: 'TCP' }],
    },
  });
  const slices = ['10.1.1.7', 'fd00:10:1:1::7'].map(each =>
    endpointSliceSchema.parse({
      metadata: { ...metadata, name: `web-${each}`, labels: { 'kubernetes.io/service-name': 'web' } },
      addressType: each.includes(':') ? 'IPv6' : 'IPv4',
      endpoints: [{ addresses: [each], conditions: { ready: true }, zone: 'us-a', hostname: 'web-0' }],
      ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
    }),
  );
  for (const row of exportService(toService(service), slices.map(toEndpointSlice), origin))
    rows.services.upsert(row);
  for (const each of Object.values(rows)) each.markSynced();
  const exporter = new Exporter(
    {
      cluster: 'us',
      rows,
      config: {
        id,
        syncedCanaries: true,
        cached: false,
        maxConnectedClusters: max,
        serviceExportsEnabled: undefined,
      },
    },
    stop.signal,
  );
  const session = keepSession(
    { endpoints: () => [etcd.endpoint], tls: await etcd.certificate(adminUser('us')) },
    stop.signal,
    async (connection, signal) => {
      await syncRemoteUsers(connection, ['eu']);
      await exporter.serve(connection, signal);
    },
  );
  return {
    rows,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await session;
    },
  };
}

function address(ip: string, identity: number): EtcdRow {
  const pod = { namespace: 'shop', pod: 'web-0', serviceAccount: 'default' };
  const value = formatAddress({ address: ip, nodeIp: '172.18.1.3', identity, encryptionKey: 0, ...pod });
  return { key: addressKey('us', ip), value };
}

/** Our mirror of the cluster of `home`, which copies cluster us from `source`. */
async function mirror(home: LocalEtcd, source: LocalEtcd, tls: TlsFiles, id: number) {
  const folders = new Folders();
  const stop = new AbortController();
  const copies = new Mirror({
    name: 'mirror',
    folder: folders.with('us', configuration(source, tls)),
    cluster: home.cluster,
    clusterId: id,
    maxClusters: 255,
    signal: stop.signal,
  });
  const session = keepSession(
    { endpoints: () => [home.endpoint], tls: await home.certificate(adminUser(home.cluster)) },
    stop.signal,
    (connection, signal) => copies.serve(connection, signal),
  );
  return {
    async [Symbol.asyncDispose]() {
      stop.abort();
      await session;
      folders[Symbol.dispose]();
    },
  };
}

/** The real kvstoremesh of the cluster of `home`, which copies cluster us from `source`. */
async function kvstoremesh(
  home: LocalEtcd,
  source: LocalEtcd,
  max: MaxClusters,
  { tls, id = 2 }: { readonly tls?: TlsFiles; readonly id?: number } = {},
): Promise<AsyncDisposable> {
  const folders = new Folders();
  const reads = tls ?? (await source.certificate(remoteUser('eu')));
  const running = await startKvstoremesh({
    binary: binaries['cilium-clustermesh-apiserver'],
    cluster: home.cluster,
    clusterId: id,
    maxClusters: max,
    own: configuration(home, await home.certificate(adminUser(home.cluster))),
    clusters: folders.with('us', configuration(source, reads)),
  });
  return {
    async [Symbol.asyncDispose]() {
      using _folders = folders;
      await running[Symbol.asyncDispose]();
    },
  };
}

const configuration = ({ endpoint }: LocalEtcd, tls: TlsFiles): string =>
  etcdConfiguration({ host: '127.0.0.1', port: endpoint.port }, tls);

/** Configuration folders, one for each reader. */
class Folders implements Disposable {
  readonly #paths: string[] = [];

  with(name: string, text: string): string {
    const path = mkdtempSync(join(tmpdir(), 'isthmus-clustermesh-'));
    this.#paths.push(path);
    writeFileSync(join(path, name), text);
    return path;
  }

  [Symbol.dispose](): void {
    for (const path of this.#paths) rmSync(path, { recursive: true });
  }
}

/** Everything known of other clusters, in an order of its own. */
function contents({ tables }: RemoteClusters) {
  const sorted = (rows: Iterable<object>) => [...rows].map(row => JSON.stringify(row)).sort();
  return {
    nodes: sorted(tables.nodes.values()),
    identities: sorted(tables.identities.values()),
    endpoints: sorted(tables.endpoints.values()),
    services: sorted(tables.services.values()),
  };
}

async function become(what: string, condition: () => boolean, seconds = 60): Promise<void> {
  for (const end = performance.now() + seconds * 1000; !condition(); ) {
    if (performance.now() > end) throw new Error(`not within ${seconds} s: ${what}`);
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}
