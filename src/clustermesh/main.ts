import { setTimeout as sleep } from 'node:timers/promises';
import { Gauge, type Registry } from 'prom-client';
import { EVERYWHERE } from '../api/config.ts';
import { type Service, serviceKey } from '../api/service.ts';
import { createRegistry, serveHealth, serveMetrics } from '../health.ts';
import { kubeInCluster } from '../kube/client.ts';
import { EventRecorder } from '../kube/events.ts';
import { readMountedConfig } from '../kube/mounted-config.ts';
import { Pulse } from '../kube/pulse.ts';
import { pathOf, resources } from '../kube/resource.ts';
import type { EtcdConnection } from '../kvstore/connection.ts';
import { listPrefix } from '../kvstore/range.ts';
import { dial } from '../kvstore/session.ts';
import { log } from '../log.ts';
import type { ReadonlyTable } from '../table/table.ts';
import { syncRemoteUsers } from './access.ts';
import { type ApiserverConfig, parseApiserverConfig } from './apiserver-config.ts';
import { initializeEtcd } from './etcd-server.ts';
import { deriveExport, type ExportSources } from './export.ts';
import { deriveFiltered, type FilteredService, tellFiltered } from './export-filter.ts';
import { limitValues, type RefusedValue, VALUE_LIMIT } from './export-limit.ts';
import { Exporter } from './exporter.ts';
import { datapathKinds, reportsPrefix } from './layout.ts';
import { serveMirror } from './mirror-daemon.ts';
import { type MirrorReport, parseReport } from './mirror-report.ts';
import { adminTls, ownEtcd, serverTls } from './own-etcd.ts';
import { leaseSeconds, OwnEtcdSession } from './own-etcd-session.ts';
import { type RemoteUsers, reflectRemoteUsers } from './remote-users.ts';
import { exportSources } from './sources.ts';
import type { Origin } from './values.ts';
import { withdrawExport } from './withdraw.ts';

/**
 * clustermesh-apiserver: writes what this cluster exports into the etcd beside it. With the argument `kvstoremesh` it is
 * the mirror, which writes there what other clusters export. With `etcd-init` it prepares that etcd's data folder and
 * ends. With `withdraw`, run beside the one that serves, it has that one stop and takes everything back. With `state` it
 * prints what the etcd holds, for a bug report; with `kvstoremesh-status` what the mirror reports.
 */
async function main(): Promise<void> {
  const config = parseApiserverConfig(readMountedConfig());
  if (config.debug) log.level = 'debug';
  const stop = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => stop.abort());
  if (process.argv[2] === 'etcd-init') await prepareEtcd(config, stop.signal);
  else if (process.argv[2] === 'withdraw') await withdraw(config);
  else if (process.argv[2] === 'state') await printState();
  else if (process.argv[2] === 'kvstoremesh') await serveMirror(config, stop.signal);
  else if (process.argv[2] === 'kvstoremesh-status') await printReports();
  else await serve(config, stop.signal);
}

async function prepareEtcd(config: ApiserverConfig, signal: AbortSignal): Promise<void> {
  const cluster = config['cluster-name'];
  const server = {
    binary: '/usr/local/bin/etcd',
    dataDir: '/var/run/etcd/data',
    listen: `${ownEtcd.host}:${ownEtcd.port}`,
    tls: serverTls,
  };
  await initializeEtcd(server, cluster, adminTls, AbortSignal.any([signal, AbortSignal.timeout(60_000)]));
  log.info({ cluster }, 'etcd is prepared: users and roles are there, authentication is on');
}

/** Milliseconds between two questions whether the API server answers: one process of a cluster may ask often. */
const PULSE = 1000;

/** Tells the process that serves in this container to write no more. */
const withdrawSignal = 'SIGUSR2';

async function withdraw(config: ApiserverConfig): Promise<void> {
  process.kill(1, withdrawSignal);
  using connection = await dial([ownEtcd], { tls: adminTls }, AbortSignal.timeout(10_000));
  const keys = await withdrawExport(connection, config['cluster-name']);
  process.stdout.write(`withdrawn: ${keys} keys\n`);
}

/** Every key with its value, a line of JSON each: what other clusters may read. */
async function printState(): Promise<void> {
  using connection = await dial([ownEtcd], { tls: adminTls }, AbortSignal.timeout(10_000));
  await listPrefix(connection, 'cilium/', entries => {
    for (const { key, value, lease, modRevision } of entries)
      process.stdout.write(
        `${JSON.stringify({ key, value, lease: String(lease), modRevision: String(modRevision) })}\n`,
      );
  });
}

/** How the mirror hears each cluster, as JSON: name of the cluster → report. Nothing where there is no mirror. */
async function printReports(): Promise<void> {
  using connection = await dial([ownEtcd], { tls: adminTls }, AbortSignal.timeout(10_000));
  const reports: Record<string, MirrorReport> = {};
  await listPrefix(connection, reportsPrefix, entries => {
    for (const { key, value } of entries) {
      const cluster = key.slice(reportsPrefix.length).split('/')[0] ?? '';
      reports[cluster] = parseReport(cluster, value);
    }
  });
  process.stdout.write(`${JSON.stringify(reports)}\n`);
}

async function serve(config: ApiserverConfig, signal: AbortSignal): Promise<void> {
  const cluster = config['cluster-name'];
  const withdrawn = new AbortController();
  process.once(withdrawSignal, () => withdrawn.abort());
  const origin: Origin = {
    cluster,
    clusterId: config['cluster-id'],
    maxClusters: config['max-connected-clusters'],
  };
  const client = kubeInCluster({ component: 'clustermesh-apiserver' });
  const onError = (path: string, error: Error): void => log.warn({ path, error }, 'watch');
  const { sources, reflections } = exportSources(client, {
    signal,
    mcsApi: config['clustermesh-enable-mcs-api'],
    globalByDefault: config['clustermesh-default-global-namespace'],
    onError,
    onBad: (path, { object, error }) => log.warn({ path, object, error }, 'object ignored'),
  });
  const users = reflectRemoteUsers(client, process.env.POD_NAMESPACE ?? 'kube-system', {
    signal,
    onError: error => onError('configmaps', error),
    onBad: (object, error) => log.warn({ object, error }, 'users of remote clusters ignored'),
  });
  const registry = createRegistry();
  const etcd = new OwnEtcdSession(registry, log);
  const desired = deriveExport(sources, origin);
  const { rows: services, refused } = limitValues(desired.services);
  const events = new EventRecorder({ client, onError: error => log.warn({ error: error.message }, 'event') });
  tellRefused(refused, sources.services, events);
  const filtered = deriveFiltered(sources);
  tellFiltered(sources, filtered, events);
  const exporter = new Exporter(
    {
      cluster,
      rows: { ...desired, services },
      config: {
        id: origin.clusterId,
        syncedCanaries: true,
        cached: false,
        maxConnectedClusters: origin.maxClusters,
        serviceExportsEnabled: config['clustermesh-enable-mcs-api'],
        ...(process.env.K8S_NODE_NAME ? { node: process.env.K8S_NODE_NAME } : {}),
      },
      ttl: leaseSeconds(config),
      onError: etcd.onError,
    },
    AbortSignal.any([signal, withdrawn.signal]),
  );
  new Pulse({
    ask: timeout =>
      client.request('GET', pathOf(resources.ciliumNodes), { query: { limit: 1 }, timeout, signal }),
    isFollowing: () => reflections.every(each => each.connected),
    interval: PULSE,
    onChange: (blind, reason) => {
      exporter.blind(blind);
      if (blind) log.warn({ reason }, 'the API server does not answer: other clusters look after our nodes');
      else log.info('the API server answers again');
    },
    signal,
  });
  registerMetrics(exporter, registry);
  registerFilterMetrics(registry, sources, { refused, filtered });

  await serveHealth({
    host: EVERYWHERE,
    port: config['clustermesh-apiserver-health-port'],
    ready: {
      etcd: () => etcd.trouble,
      export: () => {
        if (withdrawn.signal.aborted) return 'withdrawn: this cluster leaves the mesh';
        // Service exports wait for their definition, which somebody may forget: nobody else should wait with them.
        const missing = datapathKinds.filter(kind =>
          exporter.status.some(each => each.kind === kind && !each.synced),
        );
        return missing.length ? `not complete yet: ${missing.join(', ')}` : undefined;
      },
    },
  });
  const metrics = config['clustermesh-apiserver-prometheus-serve-addr'];
  if (metrics) await serveMetrics(metrics, registry);
  log.info({ cluster, id: origin.clusterId, server: client.server.href }, 'clustermesh-apiserver started');

  await etcd.keep(signal, async (connection, session) => {
    const admitted = admitRemotes(connection, users.table, session);
    const exported = exporter.serve(connection, session);
    await Promise.all([admitted, exported]);
  });
  client.close();
}

/** Keeps the users of remote clusters equal to the ConfigMap. Rejects when etcd fails. */
function admitRemotes(
  connection: EtcdConnection,
  table: ReadonlyTable<RemoteUsers>,
  signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let work = table.whenSynced();
    const apply = (): void => {
      work = work.then(async () => {
        if (signal.aborted) return;
        const wanted = [...table.values()].flatMap(each => each.clusters);
        const { added, removed } = await syncRemoteUsers(connection, wanted);
        if (added.length || removed.length) log.info({ added, removed }, 'users of remote clusters');
      });
      work.catch(reject);
    };
    const unsubscribe = table.subscribe(apply);
    const end = (): void => {
      unsubscribe();
      resolve();
    };
    if (signal.aborted) end();
    else signal.addEventListener('abort', end, { once: true });
    apply();
  });
}

/** An Event on each service whose value etcd would not take, and one when it would again. */
function tellRefused(
  refused: ReadonlyTable<RefusedValue>,
  services: ReadonlyTable<Service>,
  events: EventRecorder,
): void {
  refused.subscribe(({ key, before, after }) => {
    if (before && after) return;
    const [namespace = '', name = ''] = key.split('/').slice(-2);
    const service = services.get(serviceKey({ namespace, name }));
    if (!service) return;
    const subject = { apiVersion: 'v1', kind: 'Service', namespace, name, uid: service.uid };
    if (!after) return events.say(subject, 'Exported', 'it is exported to other clusters again');
    const kept = after.kept ? 'they keep what was exported before' : 'they know nothing of it';
    const message = `not exported to other clusters: its backends take ${after.bytes} bytes, expected ${VALUE_LIMIT} or fewer, which is what etcd takes; ${kept}`;
    log.warn({ service: `${namespace}/${name}` }, message);
    events.warn(subject, 'ExportRefused', message);
  });
}

function registerFilterMetrics(
  registry: Registry,
  { namespaces }: ExportSources,
  { refused, filtered }: { refused: ReadonlyTable<RefusedValue>; filtered: ReadonlyTable<FilteredService> },
): void {
  new Gauge({
    name: 'isthmus_clustermesh_local_namespaces',
    help: 'Namespaces of which nothing is exported',
    registers: [registry],
    collect() {
      this.set([...namespaces.values()].filter(each => !each.global).length);
    },
  });
  new Gauge({
    name: 'isthmus_clustermesh_filtered_services',
    help: 'Global services that are not exported, because their namespace is not global',
    registers: [registry],
    collect() {
      this.set(filtered.size);
    },
  });
  new Gauge({
    name: 'isthmus_clustermesh_refused_services',
    help: 'Services whose value is too large for etcd',
    registers: [registry],
    collect() {
      this.set(refused.size);
    },
  });
}

function registerMetrics(exporter: Exporter, registry: Registry): void {
  const gauge = (name: string, help: string, value: (each: Exporter['status'][number]) => number): void => {
    new Gauge({
      name: `isthmus_kvstore_${name}`,
      help,
      labelNames: ['scope'],
      registers: [registry],
      collect() {
        for (const each of exporter.status) this.set({ scope: `${each.kind}/v1` }, value(each));
      },
    });
  };
  gauge('sync_queue_size', 'Keys waiting to be written', each => each.pending + each.failing);
  gauge('exported_keys', 'Keys this cluster exports', each => each.desired);
  gauge('initial_sync_completed', '1 once every key of the kind is written', each => (each.synced ? 1 : 0));
}

main().catch(async (error: unknown) => {
  log.fatal({ error }, 'clustermesh-apiserver failed');
  // The kubelet restarts it at once; a moment of rest keeps a broken configuration from filling the log.
  await sleep(1000);
  process.exit(1);
});
