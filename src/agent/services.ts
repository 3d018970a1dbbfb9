import { isIPv6 } from 'node:net';
import {
  type Algorithm,
  balancingAnnotations,
  type ExposedType,
  failoverAnnotations,
  parseServiceAnnotations,
} from '../api/annotations.ts';
import { type EndpointSlice, SLICES_BY_NODE, SLICES_BY_SERVICE } from '../api/endpoint-slice.ts';
import { canonicalPrefix } from '../api/prefix.ts';
import { PROXY_NAME_LABEL, type Service, serviceKey } from '../api/service.ts';
import { DEAD_NODES_BY_CLUSTER, type DeadRemoteNode } from '../clustermesh/dead-nodes.ts';
import type { RemoteHealth } from '../clustermesh/rows.ts';
import type { NodeVerdict } from '../clustermesh/verdicts.ts';
import { type Frontend, frontendAddress, sameFrontend, winner } from '../loadbalancer/frontend.ts';
import { type Forwarding, frontendsOf, type Mesh } from '../loadbalancer/frontends.ts';
import { REMOTE_BY_CLUSTER, REMOTE_BY_SERVICE, type RemoteService } from '../loadbalancer/remote-service.ts';
import { derive, input } from '../table/derive.ts';
import { Reconciler } from '../table/reconciler.ts';
import { type ReadonlyTable, Table } from '../table/table.ts';
import type { ClusterRegion } from './cluster-regions.ts';
import { LoadBalancer } from './load-balancer.ts';
import type { ServiceMaps } from './service-maps.ts';

export interface ServicesOptions {
  readonly services: ReadonlyTable<Service>;
  /** With the index {@link SLICES_BY_SERVICE}. */
  readonly slices: ReadonlyTable<EndpointSlice>;
  /** With the index {@link REMOTE_BY_SERVICE}. Synced when every remote cluster is, or has been given up. */
  readonly remotes: ReadonlyTable<RemoteService>;
  /** Frontends of another origin than services, with the index `address`: the pods' hostPorts. */
  readonly hostPorts?: ReadonlyTable<Frontend>;
  /** By name: nodes of the own cluster that look dead, remote clusters. Those that are dead get no new connections. */
  readonly nodeVerdicts?: ReadonlyTable<NodeVerdict>;
  readonly clusters?: ReadonlyTable<RemoteHealth>;
  /** Nodes of remote clusters that are dead, with the index {@link DEAD_NODES_BY_CLUSTER}, and which addresses are there. */
  readonly deadNodes?: ReadonlyTable<DeadRemoteNode>;
  readonly nodeOfAddress?: (cluster: string, address: string) => string | undefined;
  /** Name of this node. */
  readonly node: string;
  /** The row of this node, for its zone. Without it the node is in none. */
  readonly nodes?: ReadonlyTable<{ readonly labels: Readonly<Record<string, string>> }>;
  /** Name of the own cluster. */
  readonly cluster: string;
  readonly regions: ReadonlyTable<ClusterRegion>;
  /** Whether another cluster may name an address as its backend; changes with `ownRanges`. */
  readonly mayServe: Mesh['mayServe'];
  /** Pod ranges of the own cluster. */
  readonly ownRanges: ReadonlyTable<unknown>;
  /** For services that do not say theirs. Default: random. */
  readonly algorithm?: Algorithm | undefined;
  /** Default: snat. */
  readonly forwarding?: Forwarding | undefined;
  readonly maps: ServiceMaps;
  readonly signal: AbortSignal;
  /** A service says something that cannot be obeyed; once per service and message. */
  readonly onProblem: (service: Service, message: string) => void;
  readonly onError: (key: string, error: Error) => void;
  /** Backends have left that no service has any more. */
  readonly onBackendsGone?: () => void;
}

/** Something a user wrote that cannot be obeyed; in force as long as the row is there. */
export interface ServiceProblem {
  /** `namespace/name`. */
  readonly service: string;
  readonly message: string;
}

export interface Services {
  readonly frontends: ReadonlyTable<Frontend>;
  readonly problems: ReadonlyTable<ServiceProblem>;
  readonly balancer: LoadBalancer;
  readonly reconciler: Reconciler<Frontend>;
}

/**
 * Service load balancing of a node, from what clusters say to the maps:
 * services + slices + remote services → claims per service → one frontend per address → maps.
 * Resolves when services and slices have been read. Remote clusters are not waited for: until they
 * have been heard, global services keep what the maps hold of them beside what is known.
 */
export async function runServices(options: ServicesOptions): Promise<Services> {
  const { services, slices, remotes, hostPorts, nodeVerdicts, clusters, deadNodes, node, regions } = options;
  // A service without its slices would lose, for a moment, the backends that the maps still hold; without verdicts it
  // would get back what is dead.
  await Promise.all([services, slices, nodeVerdicts, clusters].map(table => table?.whenSynced()));
  const heard = remotesHeard(remotes);
  const zone = zoneOfNode(options.nodes, node);
  const globals = derive<{ readonly service: string }>({
    name: 'global-services',
    keyOf: row => row.service,
    rowPerGroup: true,
    equal: () => true,
    inputs: [input(services, row => [serviceKey(row)])],
    compute(key) {
      const service = services.get(key);
      return service && parseServiceAnnotations(service.annotations).global ? [{ service: key }] : [];
    },
  });
  // What concerns all of them changes often while clusters are being heard: their annotations are read once.
  const globalServices = (): Iterable<string> => globals.keys();
  let mesh: Mesh = {
    cluster: options.cluster,
    regionOf: of => regions.get(of)?.region ?? '',
    mayServe: options.mayServe,
  };
  // What was found with the pod ranges of before holds no more.
  options.ownRanges.subscribe(() => {
    mesh = { ...mesh };
  });
  const claims = derive<Frontend>({
    name: 'frontend-claims',
    keyOf: row => `${frontendAddress(row)} ${row.service}`,
    indexes: { address: row => [frontendAddress(row)], service: row => [row.service] },
    equal: sameFrontend,
    inputs: [
      input(services, row => [serviceKey(row)]),
      input(slices, row => (row.service === '' ? [] : [row.service])),
      input(remotes, row => [serviceKey(row)]),
      input(heard, globalServices),
      input(zone, function* () {
        for (const row of services.values()) yield serviceKey(row);
      }),
      input(regions, globalServices),
      input(options.ownRanges, globalServices),
      ...(nodeVerdicts ? [input(nodeVerdicts, row => servicesOn(row.node, slices))] : []),
      ...(clusters
        ? [
            input(clusters, (row, { before, after }) =>
              before?.dead === after?.dead ? [] : servicesOf(row.cluster, remotes),
            ),
          ]
        : []),
      ...(deadNodes ? [input(deadNodes, row => servicesOf(row.cluster, remotes))] : []),
    ],
    compute(key) {
      const service = services.get(key);
      if (!service) return [];
      return frontendsOf({
        service,
        slices: slices.by(SLICES_BY_SERVICE, key),
        remotes: remotes.by(REMOTE_BY_SERVICE, key),
        complete: remotes.synced,
        algorithm: options.algorithm,
        forwarding: options.forwarding,
        place: { node, zone: zone.get(node)?.zone ?? '' },
        mesh,
        unreachable: {
          node: name => nodeVerdicts?.get(name)?.dead === true,
          everyNode: !nodeVerdicts?.size,
          cluster: name => clusters?.get(name)?.dead === true,
          backendsOf: name => {
            const lost = new Set(
              [...(deadNodes?.by(DEAD_NODES_BY_CLUSTER, name) ?? [])].flatMap(each => each.addresses),
            );
            if (lost.size === 0) return undefined;
            return address => lost.has(options.nodeOfAddress?.(name, address) ?? address);
          },
        },
      });
    },
  });
  const frontends = derive<Frontend>({
    name: 'frontends',
    keyOf: frontendAddress,
    rowPerGroup: true,
    equal: sameFrontend,
    inputs: [claims, ...(hostPorts ? [hostPorts] : [])].map(table =>
      input(table, row => [frontendAddress(row)]),
    ),
    compute(address) {
      const found = winner([...claims.by('address', address), ...(hostPorts?.by('address', address) ?? [])]);
      return found ? [found] : [];
    },
  });
  const problems = derive<ServiceProblem>({
    name: 'service-problems',
    keyOf: row => `${row.service} ${row.message}`,
    equal: () => true,
    inputs: [
      input(services, row => [serviceKey(row)]),
      // Whoever loses an address must hear of it, whichever side changed.
      input(claims, function* (row) {
        for (const claim of claims.by('address', frontendAddress(row))) yield claim.service;
        yield row.service;
      }),
      // A name may become a cluster's, or cease to be one's.
      input(regions, globalServices),
      input(heard, globalServices),
    ],
    compute: key => [
      ...problemsOf(key, services.get(key), claims),
      ...notDirect(key, services.get(key), options.forwarding),
      ...unknownClusters(key, services.get(key), remotes.synced ? regions : undefined),
    ],
  });
  problems.subscribe(({ before, after }) => {
    const service = after && services.get(after.service);
    if (service && !before) options.onProblem(service, after.message);
  });

  const balancer = new LoadBalancer(options.maps, {
    onError: error => options.onError('sweep', error),
    onBackendsGone: () => options.onBackendsGone?.(),
  });
  options.signal.addEventListener('abort', () => balancer[Symbol.dispose]());
  const reconciler = new Reconciler<Frontend>(frontends, balancer, {
    // About 5 ms of writes.
    batch: 256,
    costOf: row => 1 + row.backends.length,
    signal: options.signal,
    onError: options.onError,
  });
  return { frontends, problems, balancer, reconciler };
}

/** Whether a service of a type has addresses of a kind: each type has those of the ones before it. */
function hasType(type: Service['type'], kind: ExposedType): boolean {
  const order: readonly string[] = ['ClusterIP', 'NodePort', 'LoadBalancer'];
  return order.indexOf(kind) <= order.indexOf(type);
}

/** Services with an endpoint on a node. */
function* servicesOn(node: string, slices: ReadonlyTable<EndpointSlice>): Iterable<string> {
  for (const slice of slices.by(SLICES_BY_NODE, node)) if (slice.service !== '') yield slice.service;
}

/** Services that a cluster exports. */
function* servicesOf(cluster: string, remotes: ReadonlyTable<RemoteService>): Iterable<string> {
  for (const row of remotes.by(REMOTE_BY_CLUSTER, cluster)) yield serviceKey(row);
}

/** A table whose one row appears when every remote cluster has been heard. */
function remotesHeard(remotes: ReadonlyTable<RemoteService>): ReadonlyTable<{ readonly heard: true }> {
  const table = new Table<{ readonly heard: true }>({ name: 'remotes-heard', keyOf: () => 'heard' });
  void remotes.whenSynced().then(() => {
    table.upsert({ heard: true });
    table.markSynced();
  });
  return table;
}

const ZONE_LABEL = 'topology.kubernetes.io/zone';

/** This node's zone as a table of one row, so that other changes of the Node object touch no service. */
function zoneOfNode(nodes: ServicesOptions['nodes'], node: string): ReadonlyTable<{ readonly zone: string }> {
  const table = new Table<{ readonly zone: string }>({
    name: 'zone',
    keyOf: () => node,
    equal: (a, b) => a.zone === b.zone,
  });
  const read = (): void => table.upsert({ zone: nodes?.get(node)?.labels[ZONE_LABEL] ?? '' });
  read();
  nodes?.subscribe(read);
  table.markSynced();
  return table;
}

/** Names in the annotations that no cluster or region has; nothing while clusters are still being heard. */
function* unknownClusters(
  key: string,
  service: Service | undefined,
  regions: ReadonlyTable<ClusterRegion> | undefined,
): Iterable<ServiceProblem> {
  if (!service || !regions) return;
  const { order, weights } = parseServiceAnnotations(service.annotations).failover;
  if (!order && !weights) return;
  const clusters = [...regions.keys()].sort();
  const found = new Set([...regions.values()].map(({ region }) => region));
  const known = `the mesh has ${clusters.join(', ')}`;
  const places = [...found].filter(region => region !== '').sort();
  const knownPlaces = places.length ? `${known}, in ${places.join(', ')}` : `${known}; no node has a region`;
  for (const name of order ?? [])
    if (!clusters.includes(name) && !found.has(name))
      yield {
        service: key,
        message: `annotation ${failoverAnnotations.order}: found ${name}, expected clusters or regions of the mesh (${knownPlaces}); it is passed over`,
      };
  for (const name of weights?.keys() ?? [])
    if (!clusters.includes(name))
      yield {
        service: key,
        message: `annotation ${failoverAnnotations.weights}: found ${name}, expected clusters of the mesh (${known}); it is passed over`,
      };
}

/** Direct server return asked for where packets between nodes are in tunnels. */
function* notDirect(
  key: string,
  service: Service | undefined,
  forwarding: Forwarding | undefined,
): Iterable<ServiceProblem> {
  if (!service || forwarding?.routed) return;
  if (parseServiceAnnotations(service.annotations).forwardingMode === 'dsr')
    yield {
      service: key,
      message: `annotation ${balancingAnnotations.forwardingMode}: found dsr, which needs routingMode native or hybrid (found tunnel): the option that names the service does not travel in the tunnel; snat is in force`,
    };
}

function* problemsOf(
  key: string,
  service: Service | undefined,
  claims: ReadonlyTable<Frontend>,
): Iterable<ServiceProblem> {
  if (!service) return;
  const { problems, exposedType, sourceRangesPolicy } = parseServiceAnnotations(service.annotations);
  for (const { message } of problems) yield { service: key, message };
  if (exposedType && !hasType(service.type, exposedType))
    yield {
      service: key,
      message: `annotation ${balancingAnnotations.exposedType}: found ${exposedType}, but the service is of type ${service.type} and has no such address: it is served at none, but for its external IPs`,
    };
  if (!service.headless && service.type !== 'ExternalName' && !(PROXY_NAME_LABEL in service.labels)) {
    for (const { protocol, name, port } of service.ports)
      if (protocol === 'SCTP')
        yield {
          service: key,
          message: `port ${name === '' ? port : `${name} (${port})`}: SCTP is not balanced: found protocol SCTP, expected TCP or UDP; pods reach each other by SCTP at their own addresses`,
        };
    for (const range of service.loadBalancerSourceRanges)
      if (canonicalPrefix(range) === undefined)
        yield {
          service: key,
          message: `loadBalancerSourceRanges: found ${JSON.stringify(range)}, expected a prefix as 203.0.113.0/24; it ${sourceRangesPolicy === 'deny' ? 'keeps nobody out' : 'lets nobody in'}`,
        };
  }
  for (const claim of claims.by('service', key)) {
    const holder = winner(claims.by('address', frontendAddress(claim)))?.service;
    if (holder === undefined || holder === key) continue;
    const address =
      claim.kind === 'NodePort'
        ? `node port ${claim.port}`
        : `${isIPv6(claim.addr) ? `[${claim.addr}]` : claim.addr}:${claim.port}`;
    yield {
      service: key,
      message: `${address}/${claim.protocol} belongs to service ${holder}, which had it first`,
    };
  }
}
