import type { NodeRow } from '../api/crds/cilium-node.ts';
import type { Verdicts } from '../clustermesh/verdict-tables.ts';
import type { EventRecorder, EventSubject } from '../kube/events.ts';
import type { ReadonlyTable } from '../table/table.ts';

export interface ClusterEventsOptions {
  /** Name of this node. */
  readonly node: string;
  /** Nodes of the own cluster. */
  readonly nodes: ReadonlyTable<NodeRow>;
  readonly verdicts: Pick<Verdicts, 'nodes'>;
  readonly recorder: Pick<EventRecorder, 'say' | 'warn'>;
}

/** Events about what every agent of the cluster sees: the first node that is not dead posts them, so that they are posted once. */
export class ClusterEvents {
  readonly #options: ClusterEventsOptions;

  constructor(options: ClusterEventsOptions) {
    this.#options = options;
  }

  warn(subject: EventSubject, reason: string, message: string): void {
    if (this.#isOurs) this.#options.recorder.warn(subject, reason, message);
  }

  say(subject: EventSubject, reason: string, message: string): void {
    if (this.#isOurs) this.#options.recorder.say(subject, reason, message);
  }

  get #isOurs(): boolean {
    const { node, nodes, verdicts } = this.#options;
    const alive = [...nodes.keys()].filter(name => !verdicts.nodes.get(name)?.dead).sort();
    return alive.length === 0 || alive[0] === node;
  }
}
