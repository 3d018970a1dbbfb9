import { setTimeout as sleep } from 'node:timers/promises';
import { Counter, Gauge } from 'prom-client';

import { createRegistry, serveHealth, serveMetrics } from '../health.ts';
import { kubeInCluster } from '../kube/client.ts';
import { lead } from '../kube/lease.ts';
import { readMountedConfig } from '../kube/mounted-config.ts';
import { log } from '../log.ts';
import { version } from '../version.ts';
import { parseOperatorConfig } from './config.ts';
import { runDuties } from './duties.ts';

/** The operator: of its replicas one leads and does the cluster-wide duties, the others wait. */
async function main(): Promise<void> {
  const config = parseOperatorConfig(readMountedConfig());
  if (config.debug) log.level = 'debug';
  const client = kubeInCluster({ component: 'isthmus-operator', version });
  const identity = process.env.POD_NAME ?? `operator-${process.pid}`;
  const namespace = process.env.POD_NAMESPACE ?? 'kube-system';
  const stop = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => stop.abort());

  const registry = createRegistry();
  const leading = new Gauge({
    name: 'isthmus_operator_leader',
    help: '1 while this replica leads',
    registers: [registry],
  });
  const collected = new Counter({
    name: 'isthmus_operator_garbage_collected_total',
    help: 'Objects removed because nothing used them any more',
    labelNames: ['kind'],
    registers: [registry],
  });
  let problem: { error: Error; at: number } | undefined;
  /** A lease is tried every two seconds: what failed longer ago has succeeded since. */
  const recent = () => (problem && Date.now() - problem.at < 10_000 ? problem.error.message : undefined);
  const health = config['operator-api-serve-addr'];
  if (health) await serveHealth({ ...health, ready: { 'API server': recent } });
  const metrics = config['operator-prometheus-serve-addr'];
  if (metrics) await serveMetrics(metrics, registry);
  log.info(
    { version, server: client.server.href, identity, cluster: config['cluster-name'] },
    'operator started',
  );

  const options = {
    namespace,
    name: 'isthmus-operator',
    identity,
    signal: stop.signal,
    onError: (error: Error) => {
      problem = { error, at: Date.now() };
      log.warn({ error }, 'lease');
    },
    onLeader: (leader: string) => {
      log.info({ leader }, 'leader');
    },
  };
  await lead(client, options, async term => {
    leading.set(1);
    try {
      await runDuties({
        client,
        config,
        namespace,
        signal: term,
        onCollected: (kind, count) => collected.inc({ kind }, count),
      });
    } finally {
      leading.set(0);
    }
  });
  client.close();
}

main().catch(async (error: unknown) => {
  log.fatal({ error }, 'operator failed');
  // The kubelet restarts it at once; a moment of rest keeps a broken configuration from filling the log.
  await sleep(1000);
  process.exit(1);
});
