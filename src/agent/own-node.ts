import { isIPv4 } from 'node:net';
import type { Node } from '../kube/objects.ts';
import type { ReadonlyTable } from '../table/table.ts';
import { type RoutingMode, routingAnnotation } from './paths.ts';

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

export function ownNodeRow({ metadata, spec, status }: Node): OwnNode {
  const cidrs = spec.podCIDRs ?? (spec.podCIDR ? [spec.podCIDR] : []);
  return {
    name: metadata.name,
    uid: metadata.uid,
    labels: metadata.labels ?? {},
    annotations: metadata.annotations ?? {},
    bootId: status?.nodeInfo?.bootID ?? '',
    addresses: (status?.addresses ?? []).flatMap(({ type, address }) =>
      type === 'InternalIP' || type === 'ExternalIP' ? [{ type, ip: address }] : [],
    ),
    podCidrs: cidrs.filter(each => isIPv4(each.split('/')[0] ?? '')),
    leaving: !!metadata.deletionTimestamp || !!spec.taints?.some(each => each.key === TO_BE_DELETED_TAINT),
  };
}

/** A node that has what the datapath is built from. */
export interface ReadyNode extends OwnNode {
  /** Where other nodes reach it: its tunnel's end. */
  readonly address: string;
}

/**
 * Waits until the node has an address and a pod CIDR. Says through `waiting` what is missing, each time that
 * changes. `override` is used instead of the node's InternalIP.
 */
export async function whenNodeReady(
  table: ReadonlyTable<OwnNode>,
  name: string,
  options: {
    readonly override?: string | undefined;
    readonly signal: AbortSignal;
    readonly waiting: (reason: string) => void;
  },
): Promise<ReadyNode> {
  let said = '';
  for (;;) {
    const node = table.get(name);
    const address =
      options.override ?? node?.addresses.find(each => each.type === 'InternalIP' && isIPv4(each.ip))?.ip;
    if (node && address && node.podCidrs.length) return { ...node, address };
    const reason = !table.synced
      ? `Node ${name} has not been read yet`
      : !node
        ? `there is no Node ${name}`
        : !address
          ? `Node ${name} has no InternalIP of IPv4`
          : `Node ${name} has no podCIDR of IPv4: the controller manager gives it one with --allocate-node-cidrs`;
    if (reason !== said) options.waiting(reason);
    said = reason;
    await change(table, options.signal);
  }
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

/** The object other agents of the cluster know this node by. */
export function ciliumNodeObject(node: ReadyNode, internalAddress: string, routing: RoutingMode): object {
  const primary = { type: 'InternalIP', ip: node.address };
  const others = node.addresses.filter(each => each.ip !== node.address);
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
      addresses: [primary, ...others, { type: 'CiliumInternalIP', ip: internalAddress }],
      ipam: { podCIDRs: node.podCidrs },
      bootid: node.bootId,
      encryption: {},
      health: {},
      ingress: {},
    },
  };
}
