import { isIPv6 } from 'node:net';
import {
  type Algorithm,
  type ExposedType,
  type ForwardingMode,
  parseServiceAnnotations,
  type ServiceAnnotations,
} from '../api/annotations.ts';
import type { EndpointSlice, SliceEndpoint } from '../api/endpoint-slice.ts';
import { canonicalPrefix } from '../api/prefix.ts';
import type { Protocol, Service, ServicePort } from '../api/service.ts';
import { PROXY_NAME_LABEL, serviceKey } from '../api/service.ts';
import { preferByAffinity, usable } from './affinity.ts';
import { type Backend, type BackendState, backendKey } from './backend.ts';
import { BackendList, BackendPart } from './backend-list.ts';
import { divideSlots, isGraded, sharesOf, slotsOf } from './failover.ts';
import { anyAddress, type Frontend, type FrontendKind, hasInternalScope } from './frontend.ts';
import type { BackendPort, RemotePart, RemoteService } from './remote-service.ts';
import { type Place, preferByHints } from './topology.ts';
import { Union } from './union.ts';
import { allReachable, type Unreachable } from './unreachable.ts';

/** Everything that decides how one service is balanced on one node. */
export interface ServiceInput {
  readonly service: Service;
  /** Slices of the service in the own cluster. */
  readonly slices: Iterable<EndpointSlice>;
  /** The same service as other clusters export it; used only if ours is global. */
  readonly remotes: Iterable<RemoteService>;
  /** False while some remote cluster has not been heard yet, so that `remotes` may lack rows. */
  readonly complete: boolean;
  /** For services that do not say theirs. Default: random. */
  readonly algorithm?: Algorithm | undefined;
  /** Default: snat. */
  readonly forwarding?: Forwarding | undefined;
  /** This node: what traffic policy Local means, and whose hints count. */
  readonly place: Place;
  readonly mesh: Mesh;
  /** Default: everybody is reached. */
  readonly unreachable?: Unreachable | undefined;
}

/** How clients outside reach backends of other nodes. */
export interface Forwarding {
  /** For services that do not say theirs. hybrid: dsr for TCP, snat for UDP. */
  readonly mode: ForwardingMode | 'hybrid';
  /** False where every packet to another node's pod is in a tunnel: then there is no direct return. */
  readonly routed: boolean;
}

/** The clusters that there are, as far as choosing between them goes. */
export interface Mesh {
  /** Name of the own cluster. */
  readonly cluster: string;
  /** Region of a cluster by its name; '' where unknown. */
  readonly regionOf: (cluster: string) => string;
  /**
   * False for a backend that another cluster names and that is a pod of the own one: it is passed over. Whoever
   * would answer otherwise than before is another mesh: what was found with this one is kept.
   */
  readonly mayServe: (address: string) => boolean;
}

/**
 * All frontends of a service on this node. Headless and ExternalName services have none, nor has a
 * service that another proxy is named for. A service without endpoints has frontends without
 * backends, so that its clients are refused at once. SCTP is not translated and has no frontend.
 */
export function frontendsOf(input: ServiceInput): Frontend[] {
  const { service } = input;
  if (service.headless || service.type === 'ExternalName') return [];
  if (PROXY_NAME_LABEL in service.labels) return [];
  const annotations = parseServiceAnnotations(service.annotations);
  // In a stable order whatever order they came in.
  const slices = [...input.slices].sort((a, b) => (a.name < b.name ? -1 : 1));
  const remotes = annotations.global
    ? [...input.remotes].sort((a, b) => (a.cluster < b.cluster ? -1 : 1))
    : [];
  const unreachable = input.unreachable ?? allReachable;
  const key = serviceKey(service);
  // Where every range is wrong, or of the other family, nobody is let in.
  const sourceRanges = service.loadBalancerSourceRanges.flatMap(each => canonicalPrefix(each) ?? []);
  const frontends: Frontend[] = [];
  const exposes = (type: ExposedType): boolean => (annotations.exposedType ?? type) === type;

  for (const port of service.ports) {
    if (port.protocol === 'SCTP') continue;
    const choices = new Map<string, Choice>();
    const choose = (ipv6: boolean, local: boolean): Choice => {
      const ownParts = partsOfOwn(slices, port, ipv6, local, input.place, unreachable);
      // Traffic policy Local promises this node's endpoints, so that no remote cluster can qualify.
      if (local) return { backends: usable(new BackendList(ownParts)) };
      const remoteParts = remotes.flatMap(each => partsOfRemote(each, port, ipv6, input.mesh, unreachable));
      const name = `${port.protocol} ${port.name} ${ipv6}`;
      const { own, remote } = eachOnce(service, name, ownParts, remoteParts);
      const { affinity, failover } = annotations;
      if (annotations.global && isGraded(failover)) {
        const expected = expectedBackends(slices, port, ipv6);
        const notReady = notReadyBackends(remotes, port, ipv6, input.mesh);
        const candidates = { own, remote, expected, notReady };
        const graded = chooseByShares(annotations, input.mesh, candidates, input.place.node);
        if (graded) return graded;
      }
      const near = affinity === 'local' ? nearest(remote, input.mesh) : remote;
      return { backends: usable(preferByAffinity(affinity, own, near)) };
    };
    const choice = (ipv6: boolean, local: boolean): Choice => {
      const name = `${ipv6}/${local}`;
      const found = choices.get(name) ?? choose(ipv6, local);
      choices.set(name, found);
      return found;
    };
    const add = (kind: FrontendKind, addr: string, number: number, ipv6: boolean): void => {
      const policy = kind === 'ClusterIP' ? service.internalTrafficPolicy : service.externalTrafficPolicy;
      const local = policy === 'Local';
      const common = {
        addr,
        port: number,
        protocol: port.protocol,
        kind,
        service: key,
        portName: port.name,
        created: service.created,
        affinityTimeout: service.affinityTimeout,
        partial: annotations.global && !input.complete,
        algorithm: annotations.algorithm ?? input.algorithm,
        ...(kind === 'LoadBalancer' &&
          service.loadBalancerSourceRanges.length && {
            sourceRanges,
            sourceRangesDeny: annotations.sourceRangesPolicy === 'deny' || undefined,
          }),
      };
      // Traffic policy Local leaves no backend of another node.
      const dsr =
        (kind !== 'ClusterIP' && !local && isDirect(annotations, port, input.forwarding)) || undefined;
      const external: Frontend = { ...common, dsr, scope: 'external', local, ...choice(ipv6, local) };
      if (hasInternalScope(external))
        frontends.push({ ...common, scope: 'internal', local: false, ...choice(ipv6, false) });
      frontends.push(external);
    };
    if (exposes('ClusterIP'))
      for (const addr of service.clusterIPs) add('ClusterIP', addr, port.port, isIPv6(addr));
    for (const addr of service.externalIPs) add('ExternalIP', addr, port.port, isIPv6(addr));
    if (exposes('LoadBalancer'))
      for (const addr of service.loadBalancerIPs) add('LoadBalancer', addr, port.port, isIPv6(addr));
    if (port.nodePort !== 0 && service.type !== 'ClusterIP' && exposes('NodePort'))
      for (const ipv6 of new Set(service.clusterIPs.map(isIPv6)))
        add('NodePort', anyAddress(ipv6), port.nodePort, ipv6);
  }
  return unique(frontends);
}

/** Whether a port of a service is to be served by direct server return. */
function isDirect(
  { forwardingMode }: Pick<ServiceAnnotations, 'forwardingMode'>,
  { protocol }: Pick<ServicePort, 'protocol'>,
  forwarding: Forwarding | undefined,
): boolean {
  if (!forwarding?.routed) return false;
  const mode = forwardingMode ?? forwarding.mode;
  return mode === 'dsr' || (mode === 'hybrid' && protocol === 'TCP');
}

/** An address given twice (a cluster IP repeated as external IP) is one frontend: the first. */
function unique(frontends: readonly Frontend[]): Frontend[] {
  const seen = new Set<string>();
  return frontends.filter(each => {
    const key = `${each.addr}/${each.port}/${each.protocol}/${each.scope}`;
    return !seen.has(key) && seen.add(key);
  });
}

/** The backends of one frontend, and how it chooses between them. */
type Choice = Pick<Frontend, 'backends' | 'weights' | 'shares'>;

/** By what the annotations say of clusters. Undefined where no backend takes new connections. */
function chooseByShares(
  { affinity, failover }: Pick<ServiceAnnotations, 'affinity' | 'failover'>,
  mesh: Mesh,
  candidates: {
    own: BackendList;
    remote: BackendList;
    /** Own ones that there would be if all were well. */
    expected: number;
    /** By cluster: remote ones that would be sent to if they were ready. */
    notReady: ReadonlyMap<string, number>;
  },
  node: string,
): Choice | undefined {
  const { own, remote, expected, notReady } = candidates;
  const active = Map.groupBy(
    [...own, ...remote].filter(each => each.state === 'active'),
    each => each.cluster || mesh.cluster,
  );
  const clusters = [...new Set([mesh.cluster, ...active.keys()])].map(name => {
    const ready = active.get(name)?.length ?? 0;
    const isOwn = name === mesh.cluster;
    const all = isOwn ? Math.max(expected, ready) : ready + (notReady.get(name) ?? 0);
    return { name, own: isOwn, region: mesh.regionOf(name), ready, expected: all };
  });
  const shares = sharesOf(clusters, affinity, failover);
  if (shares.length === 0) return undefined;
  const chosen = [...slotsOf(shares)].flatMap(([name, slots]) => {
    const backends = active.get(name) ?? [];
    const weights = divideSlots(slots, backends.length, node);
    return backends.flatMap((backend, at) => (weights[at] ? [{ backend, weight: weights[at] }] : []));
  });
  return {
    backends: BackendList.of(chosen.map(({ backend }) => backend)),
    weights: chosen.every(({ weight }) => weight === 1) ? undefined : chosen.map(({ weight }) => weight),
    shares: shares.map(({ cluster, share }) => ({
      cluster: cluster.name,
      share,
      ready: cluster.ready,
      expected: cluster.expected,
    })),
  };
}

/** Of remote backends those in the own cluster's region, where one of them takes new connections; else all. */
function nearest(remote: BackendList, { cluster, regionOf }: Mesh): BackendList {
  const home = regionOf(cluster);
  if (home === '') return remote;
  const near = remote.filter(each => regionOf(each.cluster) === home);
  return near.has('active') ? near : remote;
}

/** How many backends the own cluster would have if all were well: those that are leaving do not count. */
function expectedBackends(slices: readonly EndpointSlice[], port: ServicePort, ipv6: boolean): number {
  const addresses = new Set<string>();
  for (const slice of slices) {
    if (slice.addressType !== (ipv6 ? 'IPv6' : 'IPv4')) continue;
    if (!slice.ports.some(each => each.name === port.name && each.protocol === port.protocol)) continue;
    for (const endpoint of slice.endpoints)
      if (endpoint.ready || !endpoint.terminating) addresses.add(endpoint.address);
  }
  return addresses.size;
}

interface Candidate {
  readonly endpoint: SliceEndpoint;
  /** Where it listens for the port in question. */
  readonly port: number;
  /** Undefined where it can not be sent to. */
  readonly backend: Backend | undefined;
}

/** What a slice has for a port, as it is while all nodes are reached. */
interface Candidates {
  /** In a stable order. */
  readonly list: readonly Candidate[];
  /** Of them, those that can be sent to. */
  readonly part: BackendPart;
  /** Each of `part` is there once, and none has a hint whose clients it is meant for. */
  readonly plain: boolean;
}

/** Rows never change, and most of a large service's are those of before: what is found in one is kept with it. */
const foundInSlices = new WeakMap<EndpointSlice, Map<string, Candidates>>();
/** By port and family. */
const unions = new WeakMap<Service, Map<string, Union>>();
const foundInRemotes = new WeakMap<
  RemotePart,
  { readonly mesh: Mesh; readonly parts: Map<string, BackendPart> }
>();
/** Backends of a service that are compared with one another each time: to remember so few would cost more. */
const FEW = 256;

/** A slice's endpoints that listen for a port. */
function candidatesOf(slice: EndpointSlice, port: ServicePort): Candidates {
  const ports = foundInSlices.get(slice) ?? new Map<string, Candidates>();
  foundInSlices.set(slice, ports);
  const name = `${port.protocol} ${port.name}`;
  let found = ports.get(name);
  if (found === undefined) {
    const list = slice.ports
      .filter(target => target.name === port.name && target.protocol === port.protocol)
      .flatMap(target =>
        slice.endpoints.map(endpoint => {
          const state = stateOf(endpoint, false);
          const { address, node } = endpoint;
          const backend = state && toBackend(address, target.port, port.protocol, '', node, state);
          return { endpoint, port: target.port, backend };
        }),
      )
      .sort((a, b) => (a.endpoint.address < b.endpoint.address ? -1 : 1));
    const usable = list.filter(each => each.backend !== undefined);
    const backends = usable.map(each => each.backend!);
    const hinted = usable.some(({ endpoint }) => isHinted(endpoint));
    const plain = !hinted && new Set(backends.map(each => each.key)).size === backends.length;
    found = { list, part: new BackendPart(backends), plain };
    ports.set(name, found);
  }
  return found;
}

const isHinted = ({ forZones, forNodes }: SliceEndpoint): boolean =>
  forZones.length > 0 || forNodes.length > 0;

/** What the own cluster offers: a part for each slice where nothing chooses between the backends, else one. */
function partsOfOwn(
  slices: readonly EndpointSlice[],
  port: ServicePort,
  ipv6: boolean,
  local: boolean,
  place: Place,
  unreachable: Unreachable,
): readonly BackendPart[] {
  const family = slices.filter(slice => slice.addressType === (ipv6 ? 'IPv6' : 'IPv4'));
  const found = family.map(slice => candidatesOf(slice, port));
  if (!local && unreachable.everyNode && found.every(each => each.plain)) return found.map(each => each.part);
  return chosenBackends(found, port, local, place, unreachable).parts;
}

/** The backends of both sides, each in one of them and once. */
function eachOnce(
  service: Service,
  name: string,
  ownParts: readonly BackendPart[],
  remoteParts: readonly BackendPart[],
): { readonly own: BackendList; readonly remote: BackendList } {
  const [own, remote] = [new BackendList(ownParts), new BackendList(remoteParts)];
  const parts = [...own.parts, ...remote.parts];
  if (parts.length <= 1 || isDisjoint(service, name, parts)) return { own, remote };
  const ours = onceEach(own);
  const taken = new Set(ours.map(each => each.key));
  const theirs = new Map(remote.filter(each => !taken.has(each.key)).map(each => [each.key, each]));
  return { own: ours, remote: BackendList.of([...theirs.values()]) };
}

function isDisjoint(service: Service, name: string, parts: readonly BackendPart[]): boolean {
  const count = parts.reduce((sum, part) => sum + part.length, 0);
  if (count <= FEW) return new Set(parts.flatMap(part => part.backends.map(each => each.key))).size === count;
  const ofService = unions.get(service) ?? new Map<string, Union>();
  unions.set(service, ofService);
  const union = ofService.get(name) ?? new Union();
  ofService.set(name, union);
  return union.isDisjoint(parts);
}

/** While an endpoint moves between slices it is in two of them: the better state is the newer. */
function onceEach(backends: Iterable<Backend>): BackendList {
  const unique = new Map<string, Backend>();
  for (const backend of backends)
    if (unique.get(backend.key)?.state !== 'active') unique.set(backend.key, backend);
  return BackendList.of([...unique.values()]);
}

function chosenBackends(
  found: readonly Candidates[],
  port: ServicePort,
  local: boolean,
  place: Place,
  unreachable: Unreachable,
): BackendList {
  const candidates: { readonly endpoint: SliceEndpoint; readonly backend: Backend }[] = [];
  let hinted = false;
  for (const { list } of found) {
    for (const { endpoint, port: target, backend: reached } of list) {
      if (local && endpoint.node !== place.node) continue;
      // A node reaches its own pods, whatever others think of it.
      const lost = endpoint.node !== place.node && unreachable.node(endpoint.node);
      const state = lost ? stateOf(endpoint, true) : undefined;
      const backend = lost
        ? state && toBackend(endpoint.address, target, port.protocol, '', endpoint.node, state)
        : reached;
      if (!backend) continue;
      hinted ||= isHinted(endpoint);
      candidates.push({ endpoint, backend });
    }
  }
  const chosen =
    local || !hinted
      ? candidates
      : preferByHints(
          candidates.map(({ endpoint, backend }) => ({
            ...endpoint,
            ready: endpoint.ready && backend.state !== 'unhealthy',
            backend,
          })),
          place,
        );
  return onceEach(chosen.map(each => each.backend));
}

function stateOf(endpoint: SliceEndpoint, lost: boolean): BackendState | undefined {
  if (lost) return endpoint.ready || endpoint.serving ? 'unhealthy' : undefined;
  // Ready wins over terminating: publishNotReadyAddresses asks for exactly that.
  if (endpoint.ready) return 'active';
  return endpoint.serving && endpoint.terminating ? 'terminating' : undefined;
}

/** What another cluster offers, as far as its nodes and the cluster are reached. Who leaves may be in two parts. */
function partsOfRemote(
  { cluster, backends, terminating = [] }: RemoteService,
  port: ServicePort,
  ipv6: boolean,
  mesh: Mesh,
  unreachable: Unreachable,
): readonly BackendPart[] {
  const offered = (part: RemotePart, state: BackendState): BackendPart =>
    offeredBy(cluster, part, port, ipv6, mesh, unreachable.cluster(cluster) ? 'unhealthy' : state);
  const parts = [
    ...backends.map(part => offered(part, 'active')),
    ...terminating.map(part => offered(part, 'terminating')),
  ];
  const lost = unreachable.backendsOf(cluster);
  if (!lost) return parts;
  return parts.map(part =>
    part.backends.some(each => lost(each.addr))
      ? new BackendPart(
          part.backends.map(each => (lost(each.addr) ? { ...each, state: 'unhealthy' as const } : each)),
        )
      : part,
  );
}

/** In a stable order. */
function offeredBy(
  cluster: string,
  remote: RemotePart,
  port: ServicePort,
  ipv6: boolean,
  mesh: Mesh,
  state: BackendState,
): BackendPart {
  let known = foundInRemotes.get(remote);
  if (known?.mesh !== mesh) {
    known = { mesh, parts: new Map() };
    foundInRemotes.set(remote, known);
  }
  const name = `${cluster} ${port.protocol} ${port.name} ${ipv6} ${state}`;
  let part = known.parts.get(name);
  if (part === undefined) {
    // Ports of several names may be one.
    const found = new Map<string, Backend>();
    for (const [addr, target] of matching(remote, port, ipv6, mesh)) {
      const backend = toBackend(addr, target.port, port.protocol, cluster, '', state);
      found.set(backend.key, backend);
    }
    part = new BackendPart([...found.values()].sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0)));
    known.parts.set(name, part);
  }
  return part;
}

/** By cluster, how many backends are there and not ready. */
function notReadyBackends(
  remotes: readonly RemoteService[],
  port: ServicePort,
  ipv6: boolean,
  mesh: Mesh,
): Map<string, number> {
  return new Map(
    remotes.map(({ cluster, notReady = [] }) => {
      const addresses = new Set(
        notReady.flatMap(part => Array.from(matching(part, port, ipv6, mesh), ([addr]) => addr)),
      );
      return [cluster, addresses.size];
    }),
  );
}

/** What of another cluster's backends a port of ours may be sent to. */
function* matching(
  backends: RemotePart,
  port: ServicePort,
  ipv6: boolean,
  mesh: Mesh,
): Iterable<[addr: string, target: BackendPort]> {
  for (const [addr, ports] of Object.entries(backends)) {
    // Of an address that has been checked this is all there is to see.
    if (addr.includes(':') !== ipv6 || !mesh.mayServe(addr)) continue;
    // Names must agree across clusters; an unnamed service port takes every backend port.
    for (const [name, target] of Object.entries(ports))
      if (target.protocol === port.protocol && (port.name === '' || name === port.name)) yield [addr, target];
  }
}

function toBackend(
  addr: string,
  port: number,
  protocol: Protocol,
  cluster: string,
  node: string,
  state: BackendState,
): Backend {
  return { key: backendKey(addr, port, protocol), addr, port, protocol, cluster, node, state };
}
