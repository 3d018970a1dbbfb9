import { EVERYWHERE } from '../api/config.ts';
import { CiliumNode, type NodeRow, nodeRow } from '../api/crds/cilium-node.ts';
import { createRegistry, serveHealth, serveMetrics } from '../health.ts';
import { kubeInCluster } from '../kube/client.ts';
import { reflect } from '../kube/reflect.ts';
import { pathOf, resources } from '../kube/resource.ts';
import { logOf } from '../log.ts';
import { Table } from '../table/table.ts';
import type { ApiserverConfig } from './apiserver-config.ts';
import { Mirror } from './mirror.ts';
import { leaseSeconds, OwnEtcdSession } from './own-etcd-session.ts';
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
  const etcd = new OwnEtcdSession(registry, log);
  const mirror = new Mirror({
    name: process.env.POD_NAME ?? 'kvstoremesh',
    folder: config['clustermesh-config'],
    cluster: config['cluster-name'],
    clusterId: config['cluster-id'],
    maxClusters: config['max-connected-clusters'],
    silence: config['clustermesh-heartbeat-timeout'] / 1000,
    verdicts: deriveVerdicts(nodes),
    ttl: leaseSeconds(config),
    onError: etcd.onError,
    signal,
  });
  registerRemoteMetrics(registry, () => mirror.status);
  await serveHealth({
    host: EVERYWHERE,
    port: config['kvstoremesh-health-port'],
    ready: {
      etcd: () => etcd.trouble,
      copies: () => {
        const missing = mirror.incomplete;
        return missing.length ? `not complete yet: ${missing.join(', ')}` : undefined;
      },
    },
  });
  const metrics = config['kvstoremesh-prometheus-serve-addr'];
  if (metrics) await serveMetrics(metrics, registry);
  log.info({ cluster: config['cluster-name'], folder: config['clustermesh-config'] }, 'kvstoremesh started');

  await etcd.keep(signal, (connection, session) => mirror.serve(connection, session));
  client.close();
}
