import { Gauge, type Registry } from 'prom-client';
import { type RemoteClusterStatus, remoteStates } from './remote-status.ts';

/** Gauges of the remote clusters a daemon follows, computed when they are asked for. */
export function registerRemoteMetrics(
  registry: Registry,
  status: () => readonly RemoteClusterStatus[],
): void {
  // A scrape asks for every gauge in turn: all are told of one state, which is computed once.
  let present: readonly RemoteClusterStatus[] | undefined;
  const presentStatus = (): readonly RemoteClusterStatus[] => {
    if (present === undefined) {
      present = status();
      setImmediate(() => {
        present = undefined;
      });
    }
    return present;
  };
  const gauge = (
    name: string,
    help: string,
    value: (each: RemoteClusterStatus) => number | undefined,
  ): void => {
    new Gauge({
      name: `isthmus_clustermesh_${name}`,
      help,
      labelNames: ['target_cluster'],
      registers: [registry],
      collect() {
        this.reset();
        for (const each of presentStatus()) {
          const found = value(each);
          if (found !== undefined) this.set({ target_cluster: each.name }, found);
        }
      },
    });
  };
  new Gauge({
    name: 'isthmus_clustermesh_remote_clusters',
    help: 'Configured remote clusters',
    registers: [registry],
    collect() {
      this.set(presentStatus().length);
    },
  });
  new Gauge({
    name: 'isthmus_clustermesh_remote_cluster_state',
    help: `1 for the state that it is in: ${remoteStates.join(', ')}`,
    labelNames: ['target_cluster', 'state'],
    registers: [registry],
    collect() {
      this.reset();
      for (const { name, state } of presentStatus()) this.set({ target_cluster: name, state }, 1);
    },
  });
  gauge('remote_cluster_readiness_status', '1 while the remote cluster is ready', each =>
    each.ready ? 1 : 0,
  );
  gauge('remote_cluster_dead', '1 while it is dead: nothing new is sent to it', each =>
    each.state === 'dead' ? 1 : 0,
  );
  gauge(
    'remote_cluster_disconnected_seconds',
    'Since the connection was lost; 0 while it is there',
    each => each.disconnectedAge,
  );
  gauge('remote_cluster_failures', 'Connections lost or not made', each => each.failures);
  gauge(
    'remote_cluster_repaired_values',
    'Found to be not as in its etcd, and mended',
    each => each.repaired,
  );
  gauge(
    'remote_cluster_refused_values',
    'Values refused now; counted up to 100',
    each => Object.keys(each.refused).length,
  );
  gauge('remote_cluster_refusals', 'Values refused since the start', each => each.refusals);
  gauge('remote_cluster_heartbeat_age_seconds', 'Since the last heartbeat', each => each.heartbeatAge);
  gauge('remote_cluster_nodes', 'Nodes known', each => each.counts.nodes);
  gauge('remote_cluster_endpoints', 'Addresses known', each => each.counts.ip);
  gauge('remote_cluster_services', 'Global services known', each => each.counts.services);
  gauge(
    'remote_cluster_endpoint_slices',
    'EndpointSlices known, of a cluster that exports them in place of services',
    each => each.counts.endpointslices,
  );
  gauge('remote_cluster_identities', 'Identities known', each => each.counts.identities);
}
