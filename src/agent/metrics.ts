import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import { registerRemoteMetrics } from '../clustermesh/remote-metrics.ts';
import type { Collected } from './flow-collector.ts';
import { pressureOf } from './map-pressure.ts';
import type { NodeAgent } from './node-agent.ts';

/** The agent's gauges, read when they are asked for. */
export function registerMetrics(registry: Registry, agent: NodeAgent): void {
  const gauge = (name: string, help: string, read: () => number | undefined): void => {
    new Gauge({
      name: `isthmus_${name}`,
      help,
      registers: [registry],
      collect() {
        this.set(read() ?? 0);
      },
    });
  };
  gauge('agent_ready', '1 while the agent does its work', () => (agent.starting === undefined ? 1 : 0));
  gauge('endpoints', 'Pods this node connects', () => agent.parts?.endpoints.table.size);
  /** Of dual-stack pods the family that runs out first. */
  const scarcest = () => agent.parts?.ipams.toSorted((a, b) => a.capacity - b.capacity)[0];
  gauge('ipam_used', 'Addresses in use of the pod CIDR', () => scarcest()?.used);
  gauge('ipam_capacity', 'Addresses of the pod CIDR', () => scarcest()?.capacity);
  gauge('ipcache_rows', 'Prefixes with a known identity', () => agent.parts?.state.ipcache.size);
  gauge('nodes', 'Nodes known, of all clusters', () => agent.parts?.state.nodes.size);
  gauge(
    'unreachable_nodes',
    'Nodes of the cluster that are dead: two of their probers do not hear them',
    () => agent.unreachableNodes?.list().filter(each => each.dead).length,
  );
  gauge(
    'maybe_unreachable_nodes',
    'Nodes that look dead and stay in service, because most do',
    () => agent.unreachableNodes?.list().filter(each => !each.dead).length,
  );
  gauge('probes_hear_nobody', '1 while this node hears none of the nodes that it probes', () =>
    agent.probes?.doubtful ? 1 : 0,
  );
  gauge(
    'api_server_silent_seconds',
    'How long the API server has not answered, so that this agent judges alone who is dead; 0: it answers',
    () => agent.pulse?.silentFor,
  );
  registerRemoteMetrics(registry, () => agent.remote?.status ?? []);
  new Gauge({
    name: 'isthmus_clustermesh_remote_cluster_foreign_addresses',
    help: 'Addresses it names that are not its own, and are not believed',
    labelNames: ['target_cluster'],
    registers: [registry],
    collect() {
      this.reset();
      for (const { name } of agent.remote?.status ?? []) this.set({ target_cluster: name }, 0);
      for (const { cluster } of agent.parts?.state.foreign.values() ?? [])
        this.inc({ target_cluster: cluster });
    },
  });
  const calls = new Histogram({
    name: 'isthmus_cni_call_duration_seconds',
    help: 'Time of calls of the CNI plugin in the agent, with the plugin’s own work; code 0 is success',
    labelNames: ['command', 'code'],
    buckets: [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10],
    registers: [registry],
  });
  agent.onCniCall = (command, milliseconds, code) =>
    calls.observe({ command, code: String(code) }, milliseconds / 1000);
  new Gauge({
    name: 'isthmus_reconciler_pending',
    help: 'Rows still to be written',
    labelNames: ['reconciler'],
    registers: [registry],
    collect() {
      for (const [reconciler, each] of Object.entries(agent.reconcilers))
        this.set({ reconciler }, each.status.pending);
    },
  });
  new Gauge({
    name: 'isthmus_reconciler_failing',
    help: 'Rows that could not be written and are tried again',
    labelNames: ['reconciler'],
    registers: [registry],
    collect() {
      for (const [reconciler, each] of Object.entries(agent.reconcilers))
        this.set({ reconciler }, each.status.failing.size);
    },
  });
  new Gauge({
    name: 'isthmus_bpf_map_pressure',
    help: 'Rows of a map by what it can hold; 1 is full',
    labelNames: ['map'],
    registers: [registry],
    collect() {
      for (const fill of agent.mapFills()) this.set({ map: fill.map }, pressureOf(fill));
    },
  });
  const collected = (name: string, help: string, read: (of: Collected) => number): void => {
    new Counter({
      name: `isthmus_flow_collector_${name}`,
      help,
      labelNames: ['map'],
      registers: [registry],
      collect() {
        this.reset();
        for (const [map, each] of agent.parts?.collector.collected ?? []) this.inc({ map }, read(each));
      },
    });
  };
  collected('walks_total', 'Walks over a map of flows to remove those that ended', each => each.walks);
  collected('expired_total', 'Flows removed because their time was over', each => each.expired);
  collected('work_seconds_total', 'Time spent on it', each => each.work / 1000);
  new Counter({
    name: 'isthmus_datapath_packets_total',
    help: 'Packets by what became of them',
    labelNames: ['reason', 'direction'],
    registers: [registry],
    collect() {
      this.reset();
      for (const { reason, direction, packets } of agent.packetCounts())
        if (packets > 0) this.inc({ reason, direction }, packets);
    },
  });
}
