import { ownCommand } from './own-command.ts';
import type { LabPlan } from './plan.ts';
import { run } from './process.ts';
import type { Timeline } from './timeline.ts';

/** Joins all clusters of a lab into one network, as a user does with `isthmus clustermesh`. */
export async function joinClusters(
  plan: LabPlan,
  kubeconfig: string,
  timeline: Timeline,
  signal?: AbortSignal,
): Promise<void> {
  const clustermesh = async (...args: readonly string[]): Promise<void> => {
    const [command, ...rest] = ownCommand('--kubeconfig', kubeconfig, 'clustermesh', ...args);
    const said = await run(command, rest, signal === undefined ? {} : { signal });
    for (const line of said.split('\n')) if (line !== '') timeline.detail(line);
  };
  // Nodes of a lab have addresses that every other cluster reaches, so that no load balancer is needed.
  await Promise.all(
    plan.clusters.map(({ context }) =>
      clustermesh('enable', '--context', context, '--service-type', 'NodePort'),
    ),
  );
  for (const [i, a] of plan.clusters.entries()) {
    for (const b of plan.clusters.slice(i + 1))
      await clustermesh('connect', '--context', a.context, '--destination-context', b.context);
  }
  await Promise.all(
    plan.clusters.map(({ context }) => clustermesh('status', '--context', context, '--wait')),
  );
}
