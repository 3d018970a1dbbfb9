import { setTimeout as sleep } from 'node:timers/promises';
import { createRegistry, serveHealth, serveMetrics } from '../health.ts';
import { kubeInCluster } from '../kube/client.ts';
import { readMountedConfig } from '../kube/mounted-config.ts';
import { log } from '../log.ts';
import { version } from '../version.ts';
import { serveApi } from './api-server.ts';
import { environmentSchema, parseAgentConfig } from './config.ts';
import { registerMetrics } from './metrics.ts';
import { NodeAgent } from './node-agent.ts';
import { serveProxyHealth } from './proxy-health.ts';
import { apiViews } from './views.ts';

/** The node daemon. A SIGTERM ends it at once and leaves the datapath as it is: traffic flows on. */
async function main(): Promise<void> {
  const started = performance.now();
  const config = parseAgentConfig(readMountedConfig());
  const environment = environmentSchema.parse(process.env);
  if (config.debug) log.level = 'debug';
  const stop = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => stop.abort(new Error(name)));

  const client = kubeInCluster({ component: 'isthmus-agent', version });
  const agent = new NodeAgent({ config, environment, client, signal: stop.signal });
  const registry = createRegistry();
  registerMetrics(registry, agent);
  // Answers come from the first moment on, so that whoever asks learns what is waited for.
  await serveHealth({
    host: '127.0.0.1',
    port: config['agent-health-port'],
    ready: { agent: () => agent.starting },
  });
  const metrics = config['prometheus-serve-addr'];
  if (metrics) await serveMetrics(metrics, registry);
  const proxyHealth = config['kube-proxy-replacement-healthz-bind-address'];
  if (proxyHealth) await serveProxyHealth(proxyHealth, () => agent.proxyHealth);
  await using _api = await serveApi({
    views: apiViews(agent),
    actions: { '/v1/cleanup': () => agent.cleanUp() },
    registry,
    onError: (path, error) => log.error({ path, error }, 'question on the agent socket'),
  });
  log.info({ version, node: environment.K8S_NODE_NAME, cluster: config['cluster-name'] }, 'agent started');

  const ended = new Promise<void>(resolve => {
    if (stop.signal.aborted) resolve();
    else stop.signal.addEventListener('abort', () => resolve(), { once: true });
  });
  try {
    await using _running = await agent.start();
    log.info(
      {
        milliseconds: Math.round(performance.now() - started),
        memory: `${Math.round(process.memoryUsage.rss() / 2 ** 20)} MiB`,
      },
      'agent ready',
    );
    await Promise.race([ended, agent.failed]);
  } catch (error) {
    // Stopped, or told to clean the node up, while it was still starting: that is no failure.
    if (!stop.signal.aborted && !agent.cleanedUp) throw error;
    await ended;
  }
  log.info('agent ends, the datapath stays');
  client.close();
}

main().then(
  () => process.exit(0),
  async (error: unknown) => {
    log.fatal({ error }, 'agent failed');
    // The kubelet restarts it at once; a moment of rest keeps a broken node from filling the log.
    await sleep(1000);
    process.exit(1);
  },
);
