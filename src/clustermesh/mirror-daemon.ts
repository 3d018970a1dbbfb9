import { Counter } from 'prom-client';
import { EVERYWHERE } from '../api/config.ts';
import { CiliumNode, type NodeRow, nodeRow } from '../api/crds/cilium-node.ts';
import { createRegistry, serveHealth, serveMetrics } from '../health.ts';
import { kubeInCluster } from '../kube/client.ts';
import { reflect } from '../kube/reflect.ts';
import { pathOf, resources } from '../kube/resource.ts';
import { keepSession } from '../kvstore/session.ts';
import { logOf } from '../log.ts';
import { Table } from '../table/table.ts';
import type { ApiserverConfig } from './apiserver-config.ts';
import { Mirror } from './mirror.ts';
import { adminTls, ownEtcd } from './own-etcd.ts';
import { registerRemoteMetrics } from './remote-metrics.ts';
import { deriveVerdicts } from './verdict-tables.ts';

const log = logOf('kvstoremesh');

/** The mirror as a process: the container `kvstoremesh` beside clustermesh-apiserver and its etcd. */
export async function serveMirror(config: ApiserverConfig, signal: AbortSignal): Promise<void> {
  const client = kubeInCluster({ component: 'kvstoremesh' });
  // What our nodes say of others is on their CiliumNodes: with it a silent cluster is found out as quickly as by agents.
  const nodes = new Table<NodeRow>({ name: 'nodes', keyOf: row => row.name });
  const path = pathOf(resources.ciliumNodes);
  reflect(client, {
    path,
    schema: CiliumNode,
    table: nodes,
    toRow: nodeRow,
    signal,
    onBad: ({ object, error }) => log.warn({ path, object, error }, 'object ignored'),
    onError: error => log.warn({ path, error }, 'watch'),
  });
  const registry = createRegistry();
  const errors = new Counter({
    name: 'isthmus_kvstore_sync_errors_total',
    help: 'Writes to the local etcd that failed and were tried again',
    registers: [registry],
  });
  const mirror = new Mirror({
    name: process.env.POD_NAME ?? 'kvstoremesh',
    folder: config['clustermesh-config'],
    cluster: config['cluster-name'],
    clusterId: config['cluster-id'],
    maxClusters: config['max-connected-clusters'],
    verdicts: deriveVerdicts(nodes),
    ttl: Math.max(25, Math.round(config['kvstore-lease-ttl'] / 1000)),
    onError: (key, error, attempt) => {
      errors.inc();
      if (attempt === 1 || attempt % 10 === 0)
        log.warn({ key, attempt, reason: error.message }, 'write to etcd');
    },
    signal,
  });
  registerRemoteMetrics(registry, () => mirror.status);
  let trouble: string | undefined = 'not connected yet';
  await serveHealth({
    host: EVERYWHERE,
    port: config['kvstoremesh-health-port'],
    ready: {
      etcd: () => trouble,
      copies: () => {
        const missing = mirror.incomplete;
        return missing.length ? `not complete yet: ${missing.join(', ')}` : undefined;
      },
    },
  });
  const metrics = config['kvstoremesh-prometheus-serve-addr'];
  if (metrics) await serveMetrics(metrics, registry);
  log.info({ cluster: config['cluster-name'], folder: config['clustermesh-config'] }, 'kvstoremesh started');

  await keepSession(
    {
      endpoints: () => [ownEtcd],
      tls: adminTls,
      backoff: { first: 50, max: 1000 },
      onConnected: () => {
        trouble = undefined;
        log.info('connected to etcd');
      },
      onFailure: ({ layer, message }, attempt) => {
        trouble = `${layer}: ${message}`;
        if (attempt === 1 || attempt % 20 === 0) log.warn({ layer, attempt, reason: message }, 'etcd');
      },
    },
    signal,
    (connection, session) => mirror.serve(connection, session),
  );
  client.close();
}
