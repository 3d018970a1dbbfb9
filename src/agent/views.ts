import type { AgentStatus } from '../api/agent-status.ts';
import { reservedName } from '../api/identity-number.ts';
import { frontendAddress } from '../loadbalancer/frontend.ts';
import { version } from '../version.ts';
import { clusterNodeKey } from './cluster-nodes.ts';
import { pressureWarnings } from './map-pressure.ts';
import type { NodeAgent } from './node-agent.ts';
import type { Path } from './paths.ts';
import { agentStatus } from './status.ts';

/** What the agent answers on its socket: path → present state, as flat rows. */
export function apiViews(agent: NodeAgent): Readonly<Record<string, () => unknown>> {
  return {
    '/v1/status': () => status(agent),
    '/v1/endpoints': () => endpoints(agent),
    '/v1/services': () => services(agent),
    '/v1/ipcache': () => ipcache(agent),
    '/v1/nodes': () => nodes(agent),
  };
}

function status(agent: NodeAgent): AgentStatus {
  return agentStatus({
    version,
    node: agent.nodeName,
    starting: agent.starting,
    reflections: [...(agent.sources?.reflections ?? []), ...(agent.l2?.reflections ?? [])],
    reconcilers: Object.fromEntries(
      Object.entries(agent.reconcilers).map(([name, each]) => [name, each.status]),
    ),
    endpoints: agent.parts?.endpoints.table,
    datapath: {
      socketServices: agent.config['bpf-lb-sock-hostns-only'] ? 'host' : 'all',
      tunnelUnpack: agent.config['tunnel-unpack'],
      ...(agent.parts && { attachMode: agent.parts.datapath.attachMode }),
    },
    routingMode: agent.config['routing-mode'],
    paths: agent.parts?.state.paths,
    problems: agent.services?.problems.values() ?? [],
    clusters: (agent.remote?.status ?? []).map(each => ({
      ...each,
      errors: each.ready || each.state === 'syncing' ? [] : [each.status],
      warnings: [
        ...each.warnings,
        ...Object.entries(each.refused).map(
          ([key, reason]) => `value refused: ${reason.startsWith(key) ? reason : `${key}: ${reason}`}`,
        ),
      ],
    })),
    errors: [],
    warnings: [...(agent.parts?.devices.warnings ?? []), ...pressureWarnings(agent.mapFills())],
    now: Date.now(),
  });
}

function endpoints(agent: NodeAgent): object[] {
  return [...(agent.parts?.endpoints.table.values() ?? [])]
    .sort((a, b) => a.id - b.id)
    .map(each => ({
      id: each.id,
      state: each.state,
      pod: `${each.namespace}/${each.podName}`,
      ipv4: each.ipv4,
      identity: each.identity ?? 0,
      labels:
        agent.sources?.identities.get(String(each.identity))?.text ?? reservedName(each.identity ?? 0) ?? '',
      interface: each.hostIfName,
    }));
}

function services(agent: NodeAgent): object[] {
  return [...(agent.services?.frontends.values() ?? [])]
    .map(each => ({
      id: agent.services?.balancer.serviceId(frontendAddress(each)) ?? 0,
      service: each.service,
      kind: each.kind,
      frontend: `${each.kind === 'NodePort' ? '0.0.0.0' : each.addr}:${each.port}/${each.protocol}`,
      scope: each.scope,
      backends: each.backends.map(
        backend =>
          `${backend.addr}:${backend.port}${backend.cluster ? ` (${backend.cluster})` : ''}${backend.state === 'active' ? '' : ` ${backend.state}`}`,
      ),
    }))
    .sort((a, b) => (a.service < b.service ? -1 : a.service > b.service ? 1 : a.id - b.id));
}

function ipcache(agent: NodeAgent): object[] {
  return [...(agent.parts?.state.ipcache.values() ?? [])].map(({ prefix, identity, tunnel, source }) => ({
    prefix,
    identity: reservedName(identity) ?? String(identity),
    tunnel,
    source,
  }));
}

function nodes(agent: NodeAgent): object[] {
  return [...(agent.parts?.state.nodes.values() ?? [])].map(each => ({
    cluster: each.cluster,
    name: each.local ? `${each.name} (this node)` : each.name,
    address: each.address,
    internal: each.internalAddress,
    'pod cidrs': each.podCidrs.join(' '),
    path: pathText(agent.parts?.state.paths.get(clusterNodeKey(each))),
  }));
}

/** The way to a node's pods and why it is that; '' for this node. */
const pathText = (path: Path | undefined): string =>
  path ? `${path.direct ? 'direct' : 'tunnel'} (${path.reason})` : '';
