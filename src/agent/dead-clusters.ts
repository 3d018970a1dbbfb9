import type { RemoteHealth } from '../clustermesh/rows.ts';
import type { ReadonlyTable } from '../table/table.ts';
import type { ClusterEvents } from './cluster-events.ts';

/**
 * Tells as events that a remote cluster is dead, and that it is used again. A remote cluster is no object here: they are
 * about the DaemonSet of the agents, in its `namespace`.
 */
export function tellDeadClusters(
  clusters: ReadonlyTable<RemoteHealth>,
  events: Pick<ClusterEvents, 'say' | 'warn'>,
  namespace: string,
): void {
  const subject = { apiVersion: 'apps/v1', kind: 'DaemonSet', namespace, name: 'isthmus' };
  clusters.subscribe(({ before, after }) => {
    const [was, is] = [before?.dead ?? false, after?.dead ?? false];
    if (is && !was)
      events.warn(
        subject,
        'RemoteClusterDead',
        `cluster ${after!.cluster}: neither its nodes nor its control plane answer: no new connections are sent to it`,
      );
    // One that was taken off the list is not used again.
    if (was && !is && after)
      events.say(subject, 'RemoteClusterUsed', `cluster ${after.cluster} answers again: it is used again`);
  });
}
