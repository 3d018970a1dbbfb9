/** Which addresses of services this node could answer for on its links. Pure derivations. */
import { isIP } from 'node:net';
import { parseServiceAnnotations } from '../api/annotations.ts';
import type { L2PolicyRow } from '../api/crds/l2-announcement-policy.ts';
import { type EndpointSlice, SLICES_BY_SERVICE } from '../api/endpoint-slice.ts';
import { serviceLabels } from '../api/label-selector.ts';
import { L2_CLASS } from '../api/load-balancer-service.ts';
import { PROXY_NAME_LABEL, type Service, serviceKey } from '../api/service.ts';
import { format, parse } from '../datapath/address.ts';
import { derive, input } from '../table/derive.ts';
import type { ReadonlyTable } from '../table/table.ts';
import type { OwnNode } from './own-node.ts';
import type { Uplink } from './uplink.ts';

/** An address of a service that policies want announced. */
export interface L2Address {
  readonly address: string;
  /** `namespace/name`: whose lease decides which node answers. */
  readonly service: string;
  /** Devices of this node to answer on; empty where other nodes are to answer. */
  readonly ifindexes: readonly number[];
}

/** A service this node competes for. */
export interface L2Candidate {
  /** `namespace/name`. */
  readonly service: string;
}

export interface L2AddressOptions {
  readonly services: ReadonlyTable<Service>;
  /** With the index {@link SLICES_BY_SERVICE}. */
  readonly slices: ReadonlyTable<EndpointSlice>;
  readonly policies: ReadonlyTable<L2PolicyRow>;
  /** This node's row alone. */
  readonly node: ReadonlyTable<OwnNode>;
  readonly nodeName: string;
  readonly uplinks: readonly Pick<Uplink, 'name' | 'ifindex'>[];
}

interface Claim extends L2Address {
  readonly created: string;
}

/**
 * One row an address. Of services that share an address the oldest owns it: two leases could make two nodes
 * answer. With externalTrafficPolicy Local only a node with an endpoint answers, because no other would serve.
 */
export function deriveL2Addresses(options: L2AddressOptions): ReadonlyTable<L2Address> {
  const { services, slices, policies, node } = options;
  const claims = derive<Claim>({
    name: 'l2-claims',
    keyOf: row => `${row.address} ${row.service}`,
    indexes: { address: row => [row.address] },
    equal: same,
    inputs: [
      input(services, row => [serviceKey(row)]),
      input(slices, row =>
        services.get(row.service)?.externalTrafficPolicy === 'Local' ? [row.service] : [],
      ),
      input(policies, () => services.keys()),
      input(node, (_row, { before, after }) =>
        same([before?.labels, before?.leaving], [after?.labels, after?.leaving]) ? [] : services.keys(),
      ),
    ],
    compute(key) {
      const service = services.get(key);
      return service ? claimsOf(service, options) : [];
    },
  });
  return derive<L2Address>({
    name: 'l2-addresses',
    keyOf: row => row.address,
    indexes: { service: row => [row.service] },
    equal: same,
    inputs: [input(claims, row => [row.address])],
    compute(address) {
      let owner: Claim | undefined;
      for (const claim of claims.by('address', address))
        if (!owner || `${claim.created} ${claim.service}` < `${owner.created} ${owner.service}`)
          owner = claim;
      return owner ? [{ address, service: owner.service, ifindexes: owner.ifindexes }] : [];
    },
  });
}

/** The services this node competes for: those with an address it could answer for. */
export function deriveL2Candidates(addresses: ReadonlyTable<L2Address>): ReadonlyTable<L2Candidate> {
  return derive<L2Candidate>({
    name: 'l2-candidates',
    keyOf: row => row.service,
    equal: () => true,
    inputs: [input(addresses, row => [row.service])],
    compute(service) {
      for (const row of addresses.by('service', service)) if (row.ifindexes.length) return [{ service }];
      return [];
    },
  });
}

/** An address this node answers for on one of its links. */
export interface L2Announcement {
  readonly address: string;
  readonly ifindex: number;
  readonly service: string;
}

/** What this node answers for: its addresses of the services whose lease it holds. */
export function deriveL2Announcements(
  addresses: ReadonlyTable<L2Address>,
  held: ReadonlyTable<L2Candidate>,
): ReadonlyTable<L2Announcement> {
  return derive<L2Announcement>({
    name: 'l2-announcements',
    keyOf: announcementKey,
    equal: same,
    inputs: [
      input(addresses, row => [row.address]),
      input(held, function* ({ service }) {
        for (const row of addresses.by('service', service)) yield row.address;
      }),
    ],
    compute(address) {
      const row = addresses.get(address);
      if (!row || !held.has(row.service)) return [];
      return row.ifindexes.map(ifindex => ({ address, ifindex, service: row.service }));
    },
  });
}

export const announcementKey = (row: Pick<L2Announcement, 'address' | 'ifindex'>): string =>
  `${row.address}%${row.ifindex}`;

function claimsOf(service: Service, options: L2AddressOptions): Claim[] {
  const { loadBalancerClass, labels } = service;
  if (PROXY_NAME_LABEL in labels || (loadBalancerClass !== '' && loadBalancerClass !== L2_CLASS)) return [];
  const found = new Map<string, Set<number>>();
  const { exposedType } = parseServiceAnnotations(service.annotations);
  const selectable = serviceLabels(service);
  const node = options.node.get(options.nodeName);
  const nodeLabels = node?.labels ?? {};
  const serves = !node?.leaving && !(EXCLUDED_LABEL in nodeLabels) && canServe(service, options);
  for (const policy of options.policies.values()) {
    if (!policy.selectsService(selectable)) continue;
    const here = serves && policy.selectsNode(nodeLabels);
    for (const text of [
      ...(policy.externalIPs ? service.externalIPs : []),
      ...(policy.loadBalancerIPs && (exposedType ?? 'LoadBalancer') === 'LoadBalancer'
        ? service.loadBalancerIPs
        : []),
    ]) {
      if (isIP(text) === 0) continue;
      // Users write IPv6 in several ways; one text names the row, as it is read back from the map.
      const address = format(parse(text));
      const ifindexes = found.get(address) ?? new Set();
      found.set(address, ifindexes);
      if (!here) continue;
      for (const { name, ifindex } of options.uplinks)
        if (policy.selectsInterface(name)) ifindexes.add(ifindex);
    }
  }
  return Array.from(found, ([address, ifindexes]) => ({
    address,
    service: serviceKey(service),
    created: service.created,
    ifindexes: [...ifindexes].sort((a, b) => a - b),
  }));
}

/** Kubernetes' label of nodes that are not to be behind load balancers (well-known labels). */
const EXCLUDED_LABEL = 'node.kubernetes.io/exclude-from-external-load-balancers';

/**
 * False where this node would have to refuse what comes for the address, or is about to: one whose endpoints all end
 * leaves the address to nodes with ready ones while it can still serve those who have not heard of it.
 */
function canServe(service: Service, { slices, nodeName }: L2AddressOptions): boolean {
  if (service.externalTrafficPolicy === 'Cluster') return true;
  let ending = false;
  let readyElsewhere = false;
  for (const slice of slices.by(SLICES_BY_SERVICE, serviceKey(service)))
    for (const { node, ready, serving, terminating } of slice.endpoints) {
      if (node !== nodeName) readyElsewhere ||= ready;
      else if (ready) return true;
      else ending ||= serving && terminating;
    }
  return ending && !readyElsewhere;
}

const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);
