import type { AgentStatus } from '../api/agent-status.ts';
import { reservedName } from '../api/identity-number.ts';
import type { Backend } from '../loadbalancer/backend.ts';
import { frontendAddress, shareText } from '../loadbalancer/frontend.ts';
import { version } from '../version.ts';
import { clusterNodeKey } from './cluster-nodes.ts';
import { addressesOf, type Endpoint } from './endpoint.ts';
import type { ForeignClaim } from './foreign-claims.ts';
import { pressureWarnings } from './map-pressure.ts';
import type { NodeAgent } from './node-agent.ts';
import type { Path } from './paths.ts';
import { agentStatus } from './status.ts';
import { strayPodWarnings } from './stray-pods.ts';

/** What the agent answers on its socket: path → present state, as flat rows. */
export function apiViews(agent: NodeAgent): Readonly<Record<string, () => unknown>> {
  return {
    '/v1/status': () => status(agent),
    '/v1/endpoints': () => endpoints(agent),
    '/v1/endpoint-details': () => endpointDetails(agent),
    '/v1/endpoint-log': () => agent.endpointLog?.values() ?? [],
    '/v1/services': () => services(agent),
    '/v1/ipcache': () => ipcache(agent),
    '/v1/nodes': () => nodes(agent),
    '/v1/probes': () => probes(agent),
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
      loadBalancerMode: agent.config['bpf-lb-mode'],
      ...(agent.parts && { attachMode: agent.parts.datapath.attachMode }),
    },
    routingMode: agent.config['routing-mode'],
    paths: agent.parts?.state.paths,
    problems: agent.services?.problems.values() ?? [],
    unreachableNodes: agent.unreachableNodes?.list() ?? [],
    hearsNobody: agent.probes?.doubtful === true,
    apiServerSilent: agent.pulse?.silentFor,
    clusters: (agent.remote?.status ?? []).map(each => ({
      name: each.name,
      ready: each.ready,
      state: each.state,
      status: each.status,
      mirror: each.mirror,
      disconnectedAge: each.disconnectedAge,
      lastOutage: each.lastOutage,
      heartbeatAge: each.heartbeatAge,
      deadAge: each.deadAge,
      unheardBy: each.unheardBy,
      errors: each.ready || each.state === 'syncing' || each.state === 'connected' ? [] : [each.status],
      warnings: [
        ...each.warnings,
        ...refusedWarnings(each.refused),
        ...foreignWarning(agent.parts?.state.foreign.values() ?? [], each.name),
      ],
    })),
    errors: [],
    warnings: [
      ...(agent.parts?.devices.warnings ?? []),
      ...pressureWarnings(agent.mapFills()),
      ...strayPodWarnings(agent.parts?.endpoints.table.values() ?? [], agent.parts?.node.podCidrs ?? []),
    ],
    now: Date.now(),
  });
}

/** How many refused values of a cluster are told one by one: its writer may have broken all. */
const TOLD = 5;

function refusedWarnings(refused: Readonly<Record<string, string>>): string[] {
  const lines = Object.entries(refused).map(
    ([key, reason]) => `value refused: ${reason.startsWith(key) ? reason : `${key}: ${reason}`}`,
  );
  const rest = lines.length - TOLD;
  return rest > 0 ? [...lines.slice(0, TOLD), `values refused besides: ${rest} or more`] : lines;
}

/** One line for all addresses of a cluster that are not believed. */
function foreignWarning(claims: Iterable<ForeignClaim>, cluster: string): string[] {
  const found = [...claims].filter(each => each.cluster === cluster);
  const [first] = found;
  if (!first) return [];
  return [
    `${found.length} addresses it names are not its own, and not believed: ${first.prefix} ${first.why}`,
  ];
}

function endpointRow(agent: NodeAgent, each: Endpoint): object {
  return {
    id: each.id,
    state: each.state,
    pod: each.podName ? `${each.namespace}/${each.podName}` : '',
    ipv4: each.ipv4 ?? '',
    ipv6: each.ipv6 ?? '',
    identity: each.identity ?? 0,
    labels:
      agent.sources?.identities.get(String(each.identity))?.text ?? reservedName(each.identity ?? 0) ?? '',
    interface: each.hostIfName,
  };
}

function* endpoints(agent: NodeAgent): Generator<object> {
  for (const each of agent.parts?.endpoints.table.values() ?? []) yield endpointRow(agent, each);
}

/** All that is known of each endpoint: `isthmus endpoint get`. */
function* endpointDetails(agent: NodeAgent): Generator<object> {
  for (const each of agent.parts?.endpoints.table.values() ?? [])
    yield {
      ...endpointRow(agent, each),
      created: each.createdAt,
      podUid: each.podUid,
      container: each.containerId,
      network: each.network,
      ifindex: each.ifindex,
      mac: each.mac,
      hostMac: each.hostMac,
      mtu: each.mtu,
      gateway: addressesOf(each)
        .map(({ gateway }) => gateway)
        .join(' '),
      hostPorts: each.portMappings
        .filter(port => port.hostPort !== 0)
        .map(port => `${port.hostIP ?? ''}:${port.hostPort}/${port.protocol} → ${port.containerPort}`),
    };
}

function* services(agent: NodeAgent): Generator<object> {
  for (const each of agent.services?.frontends.values() ?? [])
    yield {
      id: agent.services?.balancer.serviceId(frontendAddress(each)) ?? 0,
      service: each.service,
      kind: each.kind,
      frontend: `${addressPort(each.addr, each.port)}/${each.protocol}`,
      scope: each.scope,
      ...(each.kind !== 'ClusterIP' &&
        each.scope === 'external' &&
        !each.local && { forwarding: each.dsr ? 'dsr' : 'snat' }),
      ...(each.shares && { shares: each.shares.map(shareText).join(', ') }),
      backends: each.backends.map((backend, at) => backendText(backend, each.weights?.[at])),
    };
}

/** '10.2.0.1:80 (eu) ×3'. */
function backendText(backend: Backend, weight = 1): string {
  const cluster = backend.cluster && ` (${backend.cluster})`;
  const state = backend.state === 'active' ? '' : ` ${backend.state}`;
  return `${addressPort(backend.addr, backend.port)}${cluster}${state}${weight === 1 ? '' : ` ×${weight}`}`;
}

/** '10.1.0.1:80', '[2001:db8::1]:80'. */
const addressPort = (address: string, port: number): string =>
  address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;

function* ipcache(agent: NodeAgent): Generator<object> {
  for (const { prefix, identity, tunnel, source } of agent.parts?.state.ipcache.values() ?? [])
    yield { prefix, identity: reservedName(identity) ?? String(identity), tunnel, source };
}

function* nodes(agent: NodeAgent): Generator<object> {
  for (const each of agent.parts?.state.nodes.values() ?? [])
    yield {
      cluster: each.cluster,
      name: each.local ? `${each.name} (this node)` : each.name,
      address: each.address,
      internal: each.internalAddresses.join(' '),
      'pod cidrs': each.podCidrs.join(' '),
      path: pathText(agent.parts?.state.paths.get(clusterNodeKey(each))),
    };
}

/** The way to a node's pods and why it is that; '' for this node. */
const pathText = (path: Path | undefined): string =>
  path ? `${path.direct ? 'direct' : 'tunnel'} (${path.reason})` : '';

function* probes(agent: NodeAgent): Generator<object> {
  for (const { cluster, node, state, note } of agent.probes?.status ?? [])
    yield { cluster: cluster || agent.config['cluster-name'], node: node || 'any', state, note };
}
