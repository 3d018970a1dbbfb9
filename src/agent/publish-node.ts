import type { NodeRow } from '../api/crds/cilium-node.ts';
import { routingAnnotation } from '../api/node-traits.ts';
import { Reconciler, type ReconcilerStatus } from '../table/reconciler.ts';
import { type ReadonlyTable, Table } from '../table/table.ts';
import { ciliumNodeObject, type OwnNode, type ReadyNode } from './own-node.ts';
import { parseRoutingMode, type RoutingMode } from './paths.ts';

export interface PublishNodeOptions {
  /** What the datapath of this node is built from. */
  readonly node: ReadyNode;
  /** With this node's Kubernetes object as it is now. */
  readonly own: ReadonlyTable<OwnNode>;
  /** CiliumNodes of the cluster. */
  readonly nodes: ReadonlyTable<NodeRow>;
  readonly routing: RoutingMode;
  /** Writes the object, for server-side apply. */
  readonly write: (object: object) => Promise<unknown>;
  readonly onError: (error: Error, attempt: number) => void;
  readonly signal: AbortSignal;
}

export interface NodePublication {
  readonly reconciler: { readonly status: ReconcilerStatus };
  /** The programs that take packets without a tunnel are at work: others may be told. */
  attached(): void;
}

interface WantedNode {
  readonly name: string;
  readonly object: object;
}

/** Keeps this node's CiliumNode as the Node is, and makes it anew when somebody deletes it while the Node is there. */
export function publishNode(options: PublishNodeOptions): NodePublication {
  const { node, own, nodes, signal } = options;
  const { name } = node;
  const wanted = new Table<WantedNode>({
    name: 'own-cilium-node',
    keyOf: row => row.name,
    equal: (a, b) => JSON.stringify(a.object) === JSON.stringify(b.object),
  });
  let attached = false;
  const routing = (): RoutingMode => {
    if (attached || options.routing === 'tunnel') return options.routing;
    // Programs of an earlier agent are at work: what it said still holds.
    return parseRoutingMode(nodes.get(name)?.annotations[routingAnnotation]) ?? 'tunnel';
  };
  const derive = (): void => {
    if (!nodes.synced) return;
    const now = own.get(name);
    // The cluster removes it after the Node, which owns it.
    if (now === undefined) wanted.delete(name);
    else {
      const { address, families } = node;
      wanted.upsert({ name, object: ciliumNodeObject({ ...now, address, families }, routing()) });
    }
  };
  own.subscribe(derive);
  void nodes.whenSynced().then(derive);
  const target = {
    async apply(batch: readonly { readonly row: WantedNode | undefined }[]) {
      for (const { row } of batch) if (row) await options.write(row.object);
      return new Map<string, Error>();
    },
  };
  const reconciler = new Reconciler(wanted, target, {
    backoff: { first: 100, max: 2000 },
    onError: (_, error, attempt) => options.onError(error, attempt),
    signal,
  });
  nodes.subscribe(({ key, after }) => {
    if (key === name && !after) void reconciler.repair();
  });
  return {
    reconciler,
    attached() {
      attached = true;
      derive();
    },
  };
}
