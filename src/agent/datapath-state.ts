import type { Algorithm } from '../api/annotations.ts';
import { hostPrefix } from '../api/prefix.ts';
import type { Service } from '../api/service.ts';
import type { DeadRemoteNode } from '../clustermesh/dead-nodes.ts';
import type { RemoteTables } from '../clustermesh/rows.ts';
import type { NodeVerdict } from '../clustermesh/verdicts.ts';
import { mapTarget } from '../datapath/map-target.ts';
import type { Netlink } from '../datapath/netlink.ts';
import type { Datapath } from '../datapath/object.ts';
import { TableMap } from '../datapath/table-map.ts';
import type { Forwarding } from '../loadbalancer/frontends.ts';
import { deriveCurrentSlices, deriveLeaving } from '../loadbalancer/leaving.ts';
import type { Logger } from '../log.ts';
import { Reconciler } from '../table/reconciler.ts';
import type { ReadonlyTable } from '../table/table.ts';
import { type ClusterNode, type ClusterNodesOptions, deriveClusterNodes } from './cluster-nodes.ts';
import { deriveClusterRegions } from './cluster-regions.ts';
import type { Endpoint, EndpointMapRow } from './endpoint.ts';
import { reconcileEndpointMap } from './endpoint-map.ts';
import { FailureLog } from './failure-log.ts';
import { type ForeignClaim, ForeignClaims } from './foreign-claims.ts';
import { deriveHealthCheckPorts, type HealthCheckPort, HealthCheckServers } from './health-check-ports.ts';
import type { DeviceAddress } from './host-addresses.ts';
import { deriveHostPorts } from './host-ports.ts';
import { deriveHostRoutes, type HostRoute, hostRouteTarget } from './host-routes.ts';
import {
  deriveIpcache,
  type IpcacheMapRow,
  type IpcacheRow,
  ipcacheKey,
  ipcacheMapRow,
  prefixOfKey,
} from './ipcache.ts';
import { MaglevTables } from './maglev-tables.ts';
import {
  deriveMasqueradeAddresses,
  type MasqueradeAddress,
  type MasqueradeMapRow,
  masqueradeKeyName,
  masqueradeMapKey,
  masqueradeMapRow,
} from './masquerade-addresses.ts';
import {
  addressOfNodeKey,
  deriveNodeAddresses,
  type NodeAddress,
  type NodeMapRow,
  nodeMapKey,
  nodeMapRow,
} from './node-map.ts';
import { derivePaths, type KernelRoute, type Path, type PathInputs } from './paths.ts';
import { derivePodRanges, foreignClaim, PodRangeLookup } from './pod-ranges.ts';
import {
  addressOfServiceKey,
  deriveServiceAddresses,
  type ServiceAddress,
  type ServiceAddressRow,
  serviceAddressKey,
  serviceAddressRow,
} from './service-addresses.ts';
import type {
  BackendKey,
  BackendValue,
  FrontendKey,
  FrontendValue,
  MemberKey,
  MemberValue,
  SlotKey,
  SlotValue,
  SourceRangeKey,
  SourceRangeValue,
} from './service-maps.ts';
import { runServices, type Services } from './services.ts';
import type { Sources } from './sources.ts';
import { type PrefixMapRow, reconcileUnmasqueraded } from './unmasqueraded.ts';
import { VanishedBackends } from './vanished-backends.ts';

export interface DatapathStateOptions {
  readonly datapath: Datapath;
  readonly netlink: Netlink;
  readonly sources: Sources;
  readonly remote: RemoteTables;
  /** Nodes of this cluster that look dead. */
  readonly nodeVerdicts: ReadonlyTable<NodeVerdict>;
  /** Nodes of other clusters that are dead. */
  readonly deadRemoteNodes: ReadonlyTable<DeadRemoteNode>;
  /** This node's endpoints. */
  readonly endpoints: ReadonlyTable<Endpoint>;
  readonly hostAddresses: ReadonlyTable<DeviceAddress>;
  /** Ifindexes of the devices by which pods leave. */
  readonly uplinks: readonly number[];
  readonly kernelRoutes: ReadonlyTable<KernelRoute>;
  readonly routing: Pick<PathInputs, 'mode' | 'topology' | 'neighbourRoutes'>;
  /** Prefixes where pods show their own address. */
  readonly unmasqueraded: readonly string[];
  readonly cluster: string;
  readonly clusterId: number;
  readonly node: ClusterNodesOptions['node'] & { readonly internalAddresses: readonly string[] };
  /** isthmus_host: where the node's own packets to pods go. */
  readonly hostIfindex: number;
  /** What fits into the tunnel, in bytes. */
  readonly mtu: number;
  /** How packets find a backend, where the service does not say; and the size of Maglev tables. */
  readonly algorithm: Algorithm;
  readonly forwarding: Forwarding['mode'];
  readonly maglevSize: number;
  readonly signal: AbortSignal;
  /** The agent does its work: what load balancers are told at healthCheckNodePorts. */
  readonly healthy: () => boolean;
  readonly onServiceProblem: (service: Service, message: string) => void;
  readonly log: Logger;
}

/** What of the datapath follows the tables; every part is a reconciler with a status. */
export interface DatapathState {
  readonly nodes: ReadonlyTable<ClusterNode>;
  readonly paths: ReadonlyTable<Path>;
  readonly ipcache: ReadonlyTable<IpcacheRow>;
  /** What other clusters say of addresses that are not theirs. */
  readonly foreign: ReadonlyTable<ForeignClaim>;
  readonly reconcilers: Readonly<
    Record<string, Pick<Reconciler<unknown>, 'status' | 'whenSettled' | 'repair'>>
  >;
  /** There once services and slices have been read. */
  readonly services: Promise<Services>;
  /** Resolves when the maps hold the present row of an endpoint, or have lost it. */
  programmed(endpointKey: string): Promise<void>;
}

/** Keeps maps and routes equal to what the tables say, from now on. */
export function runDatapathState(options: DatapathStateOptions): DatapathState {
  const { datapath, sources, remote, endpoints, signal, log } = options;
  const ownRanges = derivePodRanges('own-pod-ranges', sources.nodes, () => options.cluster);
  const nodes = deriveClusterNodes({
    own: sources.nodes,
    remote: remote.nodes,
    cluster: options.cluster,
    clusterId: options.clusterId,
    node: options.node,
    ownRanges,
  });
  const ranges = derivePodRanges('pod-ranges', nodes, each => each.cluster);
  const [own, all] = [new PodRangeLookup(ownRanges), new PodRangeLookup(ranges)];
  const claims = new ForeignClaims(claim => foreignClaim(claim, own, all));
  const paths = derivePaths({ nodes, routes: options.kernelRoutes, ...options.routing });
  const ipcache = deriveIpcache({
    nodes,
    local: endpoints,
    cluster: sources.endpoints,
    remote: remote.endpoints,
    claims,
    ranges,
  });
  const slices = deriveCurrentSlices({
    slices: sources.slices,
    leaving: deriveLeaving(sources.endpoints, sources.pods),
    nodes: sources.nodes,
  });
  const failures = new FailureLog(log);
  const report = (what: string) => ({
    signal,
    onError: (key: string, error: Error, attempt: number) => failures.say(what, key, error, attempt),
  });
  const endpointMap = reconcileEndpointMap({
    endpoints,
    hostAddresses: options.hostAddresses,
    map: datapath.map<EndpointMapRow['key'], EndpointMapRow['value']>('endpoints'),
    log,
    signal,
  });
  const healthChecks = new HealthCheckServers({ healthy: options.healthy });
  signal.addEventListener('abort', () => healthChecks[Symbol.dispose]());
  const reconcilers = {
    endpoints: endpointMap.reconciler,
    nodes: new Reconciler<NodeAddress>(
      deriveNodeAddresses(nodes, paths),
      mapTarget(datapath.map<NodeMapRow['key'], NodeMapRow['value']>('nodes'), {
        nameOf: addressOfNodeKey,
        keyOf: nodeMapKey,
        toRow: nodeMapRow,
      }),
      report('node'),
    ),
    ipcache: new Reconciler<IpcacheRow>(
      ipcache,
      mapTarget(datapath.map<IpcacheMapRow['key'], IpcacheMapRow['value']>('ipcache'), {
        nameOf: prefixOfKey,
        keyOf: ipcacheKey,
        toRow: ipcacheMapRow,
      }),
      report('ipcache'),
    ),
    'service-addresses': new Reconciler<ServiceAddress>(
      deriveServiceAddresses(sources.services),
      mapTarget(datapath.map<ServiceAddressRow['key'], ServiceAddressRow['value']>('service_addresses'), {
        nameOf: addressOfServiceKey,
        keyOf: serviceAddressKey,
        toRow: serviceAddressRow,
      }),
      report('service address'),
    ),
    'health-check-ports': new Reconciler<HealthCheckPort>(
      deriveHealthCheckPorts({
        services: sources.services,
        slices,
        node: options.node.name,
      }),
      healthChecks,
      report('healthCheckNodePort'),
    ),
    unmasqueraded: reconcileUnmasqueraded(
      options.unmasqueraded,
      datapath.map<PrefixMapRow['key'], PrefixMapRow['value']>('unmasqueraded'),
      report('unmasqueraded prefix'),
    ),
    masquerade: new Reconciler<MasqueradeAddress>(
      deriveMasqueradeAddresses({
        addresses: options.hostAddresses,
        uplinks: options.uplinks,
        nodeAddresses: options.node.addresses.map(each => each.ip),
      }),
      mapTarget(datapath.map<MasqueradeMapRow['key'], MasqueradeMapRow['value']>('masquerade_addresses'), {
        nameOf: masqueradeKeyName,
        keyOf: masqueradeMapKey,
        toRow: masqueradeMapRow,
      }),
      report('masquerade address'),
    ),
    routes: new Reconciler<HostRoute>(
      deriveHostRoutes({
        nodes,
        paths,
        ifindex: options.hostIfindex,
        sources: options.node.internalAddresses,
        mtu: options.mtu,
      }),
      hostRouteTarget(options.netlink),
      report('route'),
    ),
  };
  // Until services are known nothing can be told from what an earlier agent has left.
  let vanished: VanishedBackends | undefined;
  const services = runServices({
    services: sources.services,
    slices,
    remotes: remote.services,
    nodeVerdicts: options.nodeVerdicts,
    clusters: remote.clusters,
    deadNodes: options.deadRemoteNodes,
    nodeOfAddress: (cluster, address) => remote.endpoints.get(`${cluster}/${hostPrefix(address)}`)?.nodeIp,
    hostPorts: deriveHostPorts(endpoints, options.hostAddresses),
    node: options.node.name,
    nodes: sources.node,
    cluster: options.cluster,
    mayServe: address => own.around(address).length === 0,
    ownRanges,
    regions: deriveClusterRegions({ own: sources.nodes, remote: remote.nodes, cluster: options.cluster }),
    algorithm: options.algorithm,
    forwarding: { mode: options.forwarding, routed: options.routing.mode !== 'tunnel' },
    maps: {
      frontends: datapath.map<FrontendKey, FrontendValue>('frontends'),
      slots: datapath.map<SlotKey, SlotValue>('slots'),
      backends: datapath.map<BackendKey, BackendValue>('backends'),
      maglev: new MaglevTables({
        store: new TableMap(datapath.map<number, number>('maglev')),
        size: options.maglevSize,
        onError: error => log.warn({ what: 'maglev', error: error.message }, 'cannot be written'),
      }),
      sourceRanges: datapath.map<SourceRangeKey, SourceRangeValue>('source_ranges'),
      members: datapath.map<MemberKey, MemberValue>('affinity_members'),
    },
    signal,
    onProblem: options.onServiceProblem,
    onBackendsGone: () => vanished?.look(),
    onError: (key, error) => log.warn({ what: 'service', key, error: error.message }, 'cannot be written'),
  });
  void services.then(async ({ balancer, frontends }) => {
    await frontends.whenSynced();
    vanished = new VanishedBackends({
      datapath,
      ipcache,
      isBackend: key => balancer.isBackend(key),
      signal,
      onEnded: count => log.info({ count }, 'connections to backends that are gone were ended'),
      onError: error => log.warn({ error: error.message }, 'a connection to a backend that is gone'),
    });
  });
  return {
    nodes,
    paths,
    ipcache,
    foreign: claims.table,
    reconcilers,
    services,
    programmed: key => endpointMap.programmed(key),
  };
}
