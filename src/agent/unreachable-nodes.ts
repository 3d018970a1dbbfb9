import type { AgentStatus } from '../api/agent-status.ts';
import type { NodeRow } from '../api/crds/cilium-node.ts';
import type { NodeVerdict } from '../clustermesh/verdicts.ts';
import { log } from '../log.ts';
import type { ReadonlyTable } from '../table/table.ts';
import type { ClusterEvents } from './cluster-events.ts';

export interface UnreachableNodesOptions {
  readonly verdicts: ReadonlyTable<NodeVerdict>;
  /** Nodes of the own cluster. */
  readonly nodes: ReadonlyTable<NodeRow>;
  readonly events: Pick<ClusterEvents, 'say' | 'warn'>;
  /** Milliseconds, monotonic. */
  readonly now: () => number;
}

/** The nodes that others do not hear, and since when; each change is logged, and told as an event on the Node. */
export class UnreachableNodes {
  readonly #options: UnreachableNodesOptions;
  readonly #since = new Map<string, number>();

  constructor(options: UnreachableNodesOptions) {
    this.#options = options;
    const { verdicts, now } = options;
    verdicts.subscribe(({ key: name, before, after }) => {
      if (!before) this.#since.set(name, now());
      if (!after) this.#since.delete(name);
      if (before?.dead !== after?.dead) this.#tell(name, after);
    });
  }

  list(): NonNullable<AgentStatus['unreachableNodes']> {
    const { verdicts, now } = this.#options;
    const at = now();
    return [...verdicts.values()].map(({ node, by, dead }) => ({
      node,
      by: [...by],
      dead,
      age: Math.round((at - (this.#since.get(node) ?? at)) / 100) / 10,
    }));
  }

  #tell(name: string, verdict: NodeVerdict | undefined): void {
    const { nodes, events } = this.#options;
    const by = verdict?.by.join(', ') ?? '';
    const message = !verdict
      ? 'answers probes again: its pods are in service'
      : verdict.dead
        ? `does not answer ${by}: its pods get no new connections`
        : `does not answer ${by}, but so do most nodes, or they accuse each other: its pods stay in service`;
    log.warn({ node: name, by }, message);
    if (!nodes.has(name)) return;
    // As kubelets do: `kubectl describe node` looks for the name.
    const subject = { apiVersion: 'v1', kind: 'Node', name, uid: name };
    if (verdict) events.warn(subject, verdict.dead ? 'NodeUnreachable' : 'NodeMaybeUnreachable', message);
    else events.say(subject, 'NodeReachable', message);
  }
}
