/** The agent of a lab's one node, seen from outside. */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { askAgent } from '../../src/agent/api-client.ts';
import type { MapName } from '../../src/datapath/object.ts';
import type { Lab, LabCluster } from '../../src/lab/open-lab.ts';
import { mapFolder } from '../control-plane/map-watch.ts';
import { daemons, startOf } from '../lab-daemons.ts';

export function agentOf(lab: Lab, cluster: LabCluster): number | undefined {
  return daemons(lab).find(each => each.name === 'agent' && each.cluster === cluster.name)?.pid;
}

export async function askedAgent(pid: number, path: string): Promise<string> {
  return await askAgent('GET', path, `/proc/${pid}/root/run/isthmus/agent.sock`).catch(() => '');
}

/** Samples of a metric, by their labels as Prometheus writes them. */
export function samplesOf(metrics: string, name: string): ReadonlyMap<string, number> {
  const found = metrics.matchAll(new RegExp(`^${name}(\\{[^}]*\\})? (\\S+)$`, 'gm'));
  return new Map([...found].map(([, labels = '', value]) => [labels, Number(value)]));
}

/** Maps of which nothing is left when they are to be written again. */
export const serviceMaps: readonly MapName[] = ['frontends', 'slots', 'backends', 'service_addresses'];

/** Kills it, and waits for the process that the kubelet starts instead, which finds none of these maps. */
export async function restartAgent(
  lab: Lab,
  cluster: LabCluster,
  without: readonly MapName[],
): Promise<number> {
  const old = agentOf(lab, cluster);
  if (old === undefined) throw new Error('no agent runs');
  const maps = mapFolder(lab, cluster.plan.nodes[0]!);
  process.kill(old, 'SIGKILL');
  for (const name of readdirSync(maps))
    if (without.some(each => new RegExp(`^${each}_[^_]+$`).test(name))) rmSync(join(maps, name));
  // The kubelet waits ever longer before it starts what has ended before.
  for (const limit = performance.now() + 400_000; performance.now() < limit; await pause(5)) {
    const found = agentOf(lab, cluster);
    if (found !== undefined && found !== old) return found;
  }
  throw new Error('the agent did not come back');
}

/** Milliseconds from the start of the process until it said that it does its work. */
export async function whenReady(pid: number): Promise<number> {
  for (const limit = performance.now() + 120_000; performance.now() < limit; await pause(20)) {
    const metrics = await askedAgent(pid, '/v1/metrics');
    if (samplesOf(metrics, 'isthmus_agent_ready').get('') === 1)
      return Number(process.hrtime.bigint()) / 1e6 - startOf(pid);
  }
  throw new Error('the agent was not ready after 120 s');
}
