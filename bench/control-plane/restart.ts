import { setTimeout as pause } from 'node:timers/promises';
import { askAgent } from '../../src/agent/api-client.ts';
import type { NodePlan } from '../../src/lab/plan.ts';
import { cpuOf, daemons, startOf } from '../lab-daemons.ts';
import { type Bed, now } from './bed.ts';
import type { Result } from './report.ts';

interface Restart {
  /** ms from exec until pods can be added. */
  readonly ready: number;
  /** CPU time in ms used by then. */
  readonly cpu: number;
  /** ms from exec until every remote endpoint is known again. */
  readonly complete: number;
}

/** Kills the agent of each node of us, one after the other. */
export async function restarts(bed: Bed, endpoints: number): Promise<Result[]> {
  const seen: Restart[] = [];
  for (const node of bed.us.cluster.plan.nodes) seen.push(await restart(bed, node, endpoints));
  const row = (what: string, field: keyof Restart, goal: string, cilium: string): Result => ({
    what: `agent killed with ${endpoints} remote endpoints: exec → ${what}, s, one node after the other`,
    isthmus: seen.map(each => (each[field] / 1000).toFixed(2)).join(', '),
    goal,
    cilium,
  });
  return [
    row('ready', 'ready', '< 2', '1.4 to 2.3 (its API answers)'),
    row('ready, CPU time', 'cpu', '', '1.8 to 2.8 (until all of the remote cluster is known)'),
    row('all of the remote cluster known', 'complete', '', '6.5 to 7.1'),
  ];
}

async function restart(bed: Bed, node: NodePlan, endpoints: number): Promise<Restart> {
  const agent = (): number | undefined =>
    daemons(bed.lab).find(each => each.name === 'agent' && each.node === node.name)?.pid;
  const old = agent();
  if (old === undefined) throw new Error(`no agent runs on ${node.name}`);
  process.kill(old, 'SIGKILL');
  const limit = performance.now() + 120_000;
  let pid: number | undefined;
  let ready: { readonly at: number; readonly cpu: number } | undefined;
  while (performance.now() < limit) {
    // Only the kubelet's restart is waited for; every answer costs the agent a little.
    await pause(10);
    if (pid === undefined) {
      const found = agent();
      if (found !== old) pid = found;
      continue;
    }
    const metrics = await askAgent('GET', '/v1/metrics', `/proc/${pid}/root/run/isthmus/agent.sock`).catch(
      () => '',
    );
    const since = now() / 1000 - startOf(pid);
    if (ready === undefined && metricOf(metrics, 'isthmus_agent_ready') === 1)
      ready = { at: since, cpu: cpuOf(pid) };
    if (ready !== undefined && (metricOf(metrics, 'isthmus_ipcache_rows') ?? 0) >= endpoints)
      return { ready: ready.at, cpu: ready.cpu, complete: since };
  }
  throw new Error(`the agent of ${node.name} did not come back within 120 s`);
}

function metricOf(metrics: string, name: string): number | undefined {
  const found = new RegExp(`^${name} (\\S+)$`, 'm').exec(metrics)?.[1];
  return found === undefined ? undefined : Number(found);
}
