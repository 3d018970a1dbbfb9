import type { NodeRow } from '../api/crds/cilium-node.ts';
import { unreachableAnnotation } from '../api/unreachable.ts';
import type { KubeClient } from '../kube/client.ts';
import { pathOf, resources } from '../kube/resource.ts';
import { log } from '../log.ts';
import { Reconciler } from '../table/reconciler.ts';
import type { ReadonlyTable } from '../table/table.ts';
import type { OwnAccusation } from './probes.ts';

export interface AccusationOptions {
  readonly client: KubeClient;
  /** Name of this node. */
  readonly node: string;
  /** Nodes of the own cluster. */
  readonly nodes: ReadonlyTable<NodeRow>;
  readonly accusation: ReadonlyTable<OwnAccusation>;
  readonly signal: AbortSignal;
}

/** Says on our CiliumNode which nodes and clusters our probes do not hear: each change, once. */
export function publishAccusation({ client, node, nodes, accusation, signal }: AccusationOptions): void {
  const path = pathOf(resources.ciliumNodes, { name: node });
  const present = (): string | undefined => nodes.get(node)?.annotations[unreachableAnnotation];
  let said = false;
  const target = {
    apply: async ([operation]: readonly { readonly row: OwnAccusation | undefined }[]) => {
      const text = operation?.row?.text;
      // What an agent before this one has said may still be true.
      if (said || present() !== text) {
        const annotations = { [unreachableAnnotation]: text ?? null };
        await client.patch(path, 'merge', { metadata: { annotations } }, { timeout: 5000 });
        if (said || text !== undefined) log.info({ unreachable: text ?? 'nobody' }, 'probes');
      }
      said = true;
      return new Map<string, Error>();
    },
  };
  const reconciler = new Reconciler(accusation, target, {
    signal,
    backoff: { first: 100, max: 1000 },
    onError: (_, error, attempt) => {
      if (attempt % 30 === 1) log.warn({ attempt, error: error.message }, 'what probes found cannot be said');
    },
  });
  // A CiliumNode that is made anew says nothing.
  nodes.subscribe(({ key, before, after }) => {
    if (key === node && after && !before) void reconciler.repair();
  });
}
