import { isIP } from 'node:net';
import { routingAnnotation } from '../api/node-traits.ts';
import type { Node } from '../kube/objects.ts';
import type { ReadonlyTable } from '../table/table.ts';
import { firstAddress } from './ipam.ts';
import type { RoutingMode } from './paths.ts';

/** This node's Kubernetes object, as far as the agent uses it. */
export interface OwnNode {
  readonly name: string;
  readonly uid: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly bootId: string;
  /** Type and address as in status.addresses, IP addresses only. */
  readonly addresses: readonly { readonly type: string; readonly ip: string }[];
  readonly podCidrs: readonly string[];
  /** It is about to be removed: load balancers should send no new clients to it (KEP-3836). */
  readonly leaving: boolean;
}

/** Taint by which the cluster autoscaler says that it will remove a node. */
const TO_BE_DELETED_TAINT = 'ToBeDeletedByClusterAutoscaler';

/** `families`: those the cluster's pods have. What a Node says of another one is left out. */
export function ownNodeRow({ metadata, spec, status }: Node, families: readonly (4 | 6)[] = [4, 6]): OwnNode {
  const wanted = (address: string): boolean => families.some(family => isIP(address) === family);
  const cidrs = spec.podCIDRs ?? (spec.podCIDR ? [spec.podCIDR] : []);
  return {
    name: metadata.name,
    uid: metadata.uid,
    labels: metadata.labels ?? {},
    annotations: metadata.annotations ?? {},
    bootId: status?.nodeInfo?.bootID ?? '',
    addresses: (status?.addresses ?? []).flatMap(({ type, address }) =>
      (type === 'InternalIP' || type === 'ExternalIP') && wanted(address) ? [{ type, ip: address }] : [],
    ),
    podCidrs: cidrs.filter(each => wanted(each.split('/')[0] ?? '')),
    leaving: !!metadata.deletionTimestamp || !!spec.taints?.some(each => each.key === TO_BE_DELETED_TAINT),
  };
}

/** What a node has of one family. */
export interface NodeFamily {
  readonly family: 4 | 6;
  /** Where it is reached from outside the pod network. */
  readonly address: string;
  readonly podCidrs: readonly string[];
  /** Of isthmus_host, the pods' gateway: the first address of its first pod CIDR. */
  readonly internalAddress: string;
}

/** A node that has what the datapath is built from. */
export interface ReadyNode extends OwnNode {
  /** Where other nodes reach it: its tunnel's end, of IPv4 where it has both. */
  readonly address: string;
  /** IPv4 first. */
  readonly families: readonly NodeFamily[];
}

/**
 * Waits until the node has an address and a pod CIDR of each of `families`. Says through `waiting` what is missing,
 * each time that changes. `override` is used instead of the node's InternalIP of the same family.
 */
export async function whenNodeReady(
  table: ReadonlyTable<OwnNode>,
  name: string,
  options: {
    readonly families: readonly (4 | 6)[];
    readonly override?: string | undefined;
    readonly signal: AbortSignal;
    readonly waiting: (reason: string) => void;
  },
): Promise<ReadyNode> {
  let said = '';
  for (;;) {
    const node = table.get(name);
    const found = options.families.map(family => (node ? familyOf(node, family, options.override) : ''));
    const ready = found.filter(each => typeof each !== 'string');
    const [first] = ready;
    if (node && first && ready.length === found.length)
      return { ...node, address: first.address, families: ready };
    const reason = !table.synced
      ? `Node ${name} has not been read yet`
      : !node
        ? `there is no Node ${name}`
        : found.filter(each => typeof each === 'string').join('; ');
    if (reason !== said) options.waiting(reason);
    said = reason;
    await change(table, options.signal);
  }
}

/** What the node has of a family, or what it lacks. */
function familyOf(node: OwnNode, family: 4 | 6, override?: string): NodeFamily | string {
  const { name } = node;
  const address =
    override !== undefined && isIP(override) === family
      ? override
      : node.addresses.find(each => each.type === 'InternalIP' && isIP(each.ip) === family)?.ip;
  const podCidrs = node.podCidrs.filter(each => isIP(each.split('/')[0] ?? '') === family);
  if (!address) return `Node ${name} has no InternalIP of IPv${family}`;
  if (!podCidrs[0])
    return `Node ${name} has no podCIDR of IPv${family}: the controller manager gives it one with --allocate-node-cidrs`;
  return { family, address, podCidrs, internalAddress: firstAddress(podCidrs[0]) };
}

function change(table: ReadonlyTable<OwnNode>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = (): void => {
      unsubscribe();
      signal.removeEventListener('abort', stop);
    };
    const stop = (): void => {
      end();
      reject(signal.reason);
    };
    const unsubscribe = table.subscribe(() => {
      end();
      resolve();
    });
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop);
    if (!table.synced)
      void table.whenSynced().then(() => {
        end();
        resolve();
      });
  });
}

/** Every address of the node by its type, as nodes tell each other. */
export function toldAddresses(node: ReadyNode): readonly { readonly type: string; readonly ip: string }[] {
  const primary = node.families.map(({ address }) => ({ type: 'InternalIP', ip: address }));
  const others = node.addresses.filter(each => !primary.some(({ ip }) => ip === each.ip));
  const internal = node.families.map(each => ({ type: 'CiliumInternalIP', ip: each.internalAddress }));
  return [...primary, ...others, ...internal];
}

/** The object other agents of the cluster know this node by. */
export function ciliumNodeObject(node: ReadyNode, routing: RoutingMode): object {
  return {
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumNode',
    metadata: {
      name: node.name,
      labels: node.labels,
      annotations: { [routingAnnotation]: routing },
      ownerReferences: [{ apiVersion: 'v1', kind: 'Node', name: node.name, uid: node.uid }],
    },
    spec: {
      addresses: toldAddresses(node),
      ipam: { podCIDRs: node.podCidrs },
      bootid: node.bootId,
      encryption: {},
      health: {},
      ingress: {},
    },
  };
}
