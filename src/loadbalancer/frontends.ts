import { isIPv6 } from 'node:net';
import { type Algorithm, parseServiceAnnotations } from '../api/annotations.ts';
import type { EndpointSlice, SliceEndpoint } from '../api/endpoint-slice.ts';
import { canonicalPrefix } from '../api/prefix.ts';
import type { Protocol, Service, ServicePort } from '../api/service.ts';
import { PROXY_NAME_LABEL, serviceKey } from '../api/service.ts';
import { preferByAffinity, usable } from './affinity.ts';
import { type Backend, type BackendState, backendKey } from './backend.ts';
import { anyAddress, type Frontend, type FrontendKind, hasInternalScope } from './frontend.ts';
import type { RemoteService } from './remote-service.ts';
import { type Place, preferByHints } from './topology.ts';

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
  /** This node: what traffic policy Local means, and whose hints count. */
  readonly place: Place;
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
  const slices = [...input.slices];
  const remotes = annotations.global ? [...input.remotes] : [];
  const key = serviceKey(service);
  // Where every range is wrong, or of the other family, nobody is let in.
  const sourceRanges = service.loadBalancerSourceRanges.flatMap(each => canonicalPrefix(each) ?? []);
  const frontends: Frontend[] = [];

  for (const port of service.ports) {
    if (port.protocol === 'SCTP') continue;
    const choices = new Map<string, readonly Backend[]>();
    // Traffic policy Local promises this node's endpoints, so that no remote cluster can qualify.
    const backends = (ipv6: boolean, local: boolean): readonly Backend[] => {
      const name = `${ipv6}/${local}`;
      let found = choices.get(name);
      if (!found) {
        const own = ownBackends(slices, port, ipv6, local, input.place);
        const remote = local ? [] : remoteBackends(remotes, port, ipv6, own);
        found = usable(preferByAffinity(annotations.affinity, own, remote));
        choices.set(name, found);
      }
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
        sourceRanges:
          kind === 'LoadBalancer' && service.loadBalancerSourceRanges.length ? sourceRanges : undefined,
      };
      const external: Frontend = { ...common, scope: 'external', local, backends: backends(ipv6, local) };
      if (hasInternalScope(external))
        frontends.push({ ...common, scope: 'internal', local: false, backends: backends(ipv6, false) });
      frontends.push(external);
    };
    for (const addr of service.clusterIPs) add('ClusterIP', addr, port.port, isIPv6(addr));
    for (const addr of service.externalIPs) add('ExternalIP', addr, port.port, isIPv6(addr));
    for (const addr of service.loadBalancerIPs) add('LoadBalancer', addr, port.port, isIPv6(addr));
    if (port.nodePort !== 0 && service.type !== 'ClusterIP')
      for (const ipv6 of new Set(service.clusterIPs.map(isIPv6)))
        add('NodePort', anyAddress(ipv6), port.nodePort, ipv6);
  }
  return unique(frontends);
}

/** An address given twice (a cluster IP repeated as external IP) is one frontend: the first. */
function unique(frontends: readonly Frontend[]): Frontend[] {
  const seen = new Set<string>();
  return frontends.filter(each => {
    const key = `${each.addr}/${each.port}/${each.protocol}/${each.scope}`;
    return !seen.has(key) && seen.add(key);
  });
}

function ownBackends(
  slices: readonly EndpointSlice[],
  port: ServicePort,
  ipv6: boolean,
  local: boolean,
  place: Place,
): Backend[] {
  const candidates: (SliceEndpoint & { readonly backend: Backend })[] = [];
  for (const slice of slices) {
    if (slice.addressType !== (ipv6 ? 'IPv6' : 'IPv4')) continue;
    for (const target of slice.ports) {
      if (target.name !== port.name || target.protocol !== port.protocol) continue;
      for (const endpoint of slice.endpoints) {
        const state = stateOf(endpoint);
        if (!state || (local && endpoint.node !== place.node)) continue;
        const backend = toBackend(endpoint.address, target.port, port.protocol, '', endpoint.node, state);
        candidates.push({ ...endpoint, backend });
      }
    }
  }
  const found = new Map<string, Backend>();
  // While an endpoint moves between slices it is in two of them: the better state is the newer.
  for (const { backend } of local ? candidates : preferByHints(candidates, place))
    if (found.get(backend.key)?.state !== 'active') found.set(backend.key, backend);
  return sorted(found);
}

function stateOf(endpoint: SliceEndpoint): BackendState | undefined {
  // Ready wins over terminating: publishNotReadyAddresses asks for exactly that.
  if (endpoint.ready) return 'active';
  return endpoint.serving && endpoint.terminating ? 'terminating' : undefined;
}

function remoteBackends(
  remotes: readonly RemoteService[],
  port: ServicePort,
  ipv6: boolean,
  own: readonly Backend[],
): Backend[] {
  const taken = new Set(own.map(each => each.key));
  const found = new Map<string, Backend>();
  for (const remote of remotes)
    for (const [addr, ports] of Object.entries(remote.backends)) {
      if (isIPv6(addr) !== ipv6) continue;
      for (const [name, target] of Object.entries(ports)) {
        // Names must agree across clusters; an unnamed service port takes every backend port.
        if (target.protocol !== port.protocol || (port.name !== '' && name !== port.name)) continue;
        const backend = toBackend(addr, target.port, port.protocol, remote.cluster, '', 'active');
        if (!taken.has(backend.key)) found.set(backend.key, backend);
      }
    }
  return sorted(found);
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

/** A stable order whatever order the slices came in. */
function sorted(found: ReadonlyMap<string, Backend>): Backend[] {
  return [...found.values()].sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
}
