import { internalAddresses, type NodeRow, nodeAddress } from '../api/crds/cilium-node.ts';
import { formatUnreachable, parseUnreachable, unreachableAnnotation } from '../api/unreachable.ts';
import { type Belief, type BeliefOptions, firstBelief, isFresh, nextBelief } from '../clustermesh/belief.ts';
import { clusterProbers, clusterTargets, probedBy, ringOf } from '../clustermesh/probers.ts';
import { REMOTE_NODES_BY_CLUSTER, type RemoteHealth, type RemoteNode } from '../clustermesh/rows.ts';
import type { Verdicts } from '../clustermesh/verdict-tables.ts';
import { type ReadonlyTable, Table } from '../table/table.ts';

export interface ProbesOptions {
  /** Name of this node. */
  readonly node: string;
  /** Nodes of the own cluster. */
  readonly nodes: ReadonlyTable<NodeRow>;
  /** With the index {@link REMOTE_NODES_BY_CLUSTER}. */
  readonly remoteNodes: ReadonlyTable<RemoteNode>;
  /** Remote clusters that are configured. */
  readonly clusters: ReadonlyTable<RemoteHealth>;
  readonly verdicts: Verdicts;
  readonly belief: BeliefOptions;
  readonly socket: {
    /** Sends one question; why it could not be sent. */
    ask(address: string, number: number): string | undefined;
    /** Numbers of the questions that have been answered since the last call. */
    poll(): number[];
  };
  /** Milliseconds, monotonic. */
  readonly now: () => number;
}

/** What this node says of others: the value of its annotation, undefined for none. */
export interface OwnAccusation {
  readonly node: string;
  readonly text: string | undefined;
}

/** One probed node or cluster, for status pages. */
export interface ProbeStatus {
  readonly cluster: string;
  /** '' for a cluster as a whole. */
  readonly node: string;
  readonly state: 'answers' | 'silent' | 'never heard';
  /** What is odd about it. */
  readonly note: string;
}

interface Address {
  readonly ip: string;
  readonly number: number;
  heard: boolean;
  answered: boolean;
}

interface Target {
  readonly name: string;
  readonly addresses: string;
  /** In the pod network: what pods need. */
  readonly path: readonly Address[];
  /** Outside of it. */
  readonly outside: readonly Address[];
}

interface Probed {
  readonly targets: Target[];
  belief: Belief;
  /** Which of several targets is asked next. */
  turn: number;
}

type AddressedNode = Pick<NodeRow, 'name' | 'addresses'>;

/**
 * Probes the nodes and clusters that are this node's to probe, a round each time `round` is called. What it finds is in
 * the table `accusation`. A node is asked by its address in the pod network, through the tunnel if there is one:
 * that is what matters. Its address outside is asked while that one has never answered or does not now.
 *
 * A prober that hears none of several neighbours is itself cut off: then it leaves what it said before as it is.
 */
export class Probes {
  readonly accusation: ReadonlyTable<OwnAccusation>;
  readonly #accusation: Table<OwnAccusation>;
  readonly #options: ProbesOptions;
  readonly #nodes = new Map<string, Probed>();
  readonly #clusters = new Map<string, Probed>();
  readonly #byNumber = new Map<number, Address>();
  /** Clusters that were silent before this process began and whose nodes are not known yet. */
  readonly #adopted: Set<string>;
  #ring: string[] = [];
  #membersChanged = true;
  #dutiesChanged = true;
  readonly #clustersChanged = new Set<string>();
  #lastNumber = 0;
  #started = false;
  /** This node hears nobody, and says nothing. */
  doubtful = false;

  constructor(options: ProbesOptions) {
    this.#options = options;
    const { node, nodes, remoteNodes, verdicts } = options;
    this.#accusation = new Table<OwnAccusation>({
      name: 'own-accusation',
      keyOf: row => row.node,
      equal: (a, b) => a.text === b.text,
    });
    this.accusation = this.#accusation;
    const before = parseUnreachable(nodes.get(node)?.annotations[unreachableAnnotation]);
    this.#adopted = new Set(before.clusters);
    for (const name of before.nodes) this.#nodes.set(name, this.#probed(true));
    nodes.subscribe(({ before, after }) => {
      if (!before || !after) this.#membersChanged = true;
      else if (addressText(before) !== addressText(after)) this.#dutiesChanged = true;
    });
    verdicts.nodes.subscribe(() => {
      this.#dutiesChanged = true;
    });
    remoteNodes.subscribe(({ before, after }) => {
      if (!before || !after || addressText(before) !== addressText(after))
        this.#clustersChanged.add((after ?? before)!.cluster);
    });
  }

  /** Judges by the answers that have come since the last round, and asks again. */
  round(): void {
    for (const { targets } of this.#probes())
      for (const { path, outside } of targets)
        for (const each of [...path, ...outside]) each.answered = false;
    for (const number of this.#options.socket.poll()) {
      const address = this.#byNumber.get(number);
      if (!address) continue;
      address.heard = true;
      address.answered = true;
    }
    if (this.#started) this.#judge();
    this.#started = true;
    this.#takeOnDuties();
    for (const probed of this.#probes()) this.#ask(probed);
  }

  get status(): ProbeStatus[] {
    const row = (cluster: string, node: string, { belief, targets }: Probed): ProbeStatus => {
      const outside = targets.some(
        each => each.path.length > 0 && each.outside.some(({ answered }) => answered),
      );
      return {
        cluster,
        node,
        state: belief.silent ? 'silent' : belief.heard ? 'answers' : 'never heard',
        note:
          belief.silent && belief.answeringSince !== undefined
            ? `answers again, and has to for ${belief.hold / 1000} s`
            : belief.silent && outside
              ? 'answers outside of the pod network'
              : '',
      };
    };
    return [
      ...[...this.#nodes].map(([node, probed]) => row('', node, probed)),
      ...[...this.#clusters].map(([cluster, probed]) => row(cluster, '', probed)),
    ];
  }

  #judge(): void {
    const { belief: options, now, node } = this.#options;
    const at = now();
    for (const probed of this.#probes())
      probed.belief = nextBelief(probed.belief, probed.targets.some(answers), at, options);
    const nodes = [...this.#nodes];
    const clusters = [...this.#clusters];
    const hearsNodes = nodes.some(([, { belief }]) => isFresh(belief));
    const hearsClusters = clusters.some(([, { belief }]) => isFresh(belief));
    this.doubtful = nodes.length > 1 && !hearsNodes && !hearsClusters;
    if (this.doubtful) return;
    const silent = (list: readonly (readonly [string, Probed])[]): string[] =>
      list.flatMap(([name, { belief }]) => (belief.silent ? [name] : []));
    const text = formatUnreachable({
      nodes: silent(nodes),
      clusters: [...silent(clusters), ...this.#adopted],
    });
    this.#accusation.upsert({ node, text });
    if (!this.#accusation.synced) this.#accusation.markSynced();
  }

  #takeOnDuties(): void {
    const { node, nodes, clusters, remoteNodes, verdicts } = this.#options;
    const dead = (name: string): boolean => verdicts.nodes.get(name)?.dead === true;
    if (this.#membersChanged) this.#ring = ringOf(nodes.keys());
    const everything = this.#membersChanged || this.#dutiesChanged;
    this.#membersChanged = false;
    this.#dutiesChanged = false;
    if (everything) {
      const duties = new Set(probedBy(this.#ring, node, dead));
      // Whom it found silent it goes on to probe: its word would be missed.
      for (const [name, { belief }] of this.#nodes) if (belief.silent) duties.add(name);
      for (const name of this.#nodes.keys())
        if (!duties.has(name) || !nodes.has(name)) {
          this.#aim(this.#nodes.get(name)!, []);
          this.#nodes.delete(name);
        }
      for (const name of duties) {
        const row = nodes.get(name);
        if (!row) continue;
        const probed = this.#nodes.get(name) ?? this.#probed(dead(name));
        this.#nodes.set(name, probed);
        this.#aim(probed, [row]);
      }
    }
    const known = everything ? [...clusters.keys(), ...this.#clusters.keys()] : this.#clustersChanged;
    for (const cluster of new Set(known)) {
      const present = this.#clusters.get(cluster);
      const mine = present?.belief.silent || clusterProbers(cluster, this.#ring, dead).includes(node);
      const theirs = new Map(
        Array.from(mine ? remoteNodes.by(REMOTE_NODES_BY_CLUSTER, cluster) : [], row => [row.name, row]),
      );
      if (theirs.size === 0) {
        if (present) this.#aim(present, []);
        this.#clusters.delete(cluster);
        continue;
      }
      const probed =
        present ??
        this.#probed(this.#adopted.has(cluster) || verdicts.clusters.get(cluster)?.agreed === true);
      this.#adopted.delete(cluster);
      this.#clusters.set(cluster, probed);
      this.#aim(
        probed,
        clusterTargets(node, cluster, theirs.keys()).map(name => theirs.get(name)!),
      );
    }
    this.#clustersChanged.clear();
    for (const cluster of this.#adopted) if (!clusters.has(cluster)) this.#adopted.delete(cluster);
  }

  *#probes(): Generator<Probed> {
    yield* this.#nodes.values();
    yield* this.#clusters.values();
  }

  #probed(silent: boolean): Probed {
    return { targets: [], belief: firstBelief(this.#options.belief, silent), turn: 0 };
  }

  /** Makes these nodes its targets; those that were before keep what is known of them. */
  #aim(probed: Probed, nodes: readonly AddressedNode[]): void {
    const kept = new Map(probed.targets.map(each => [`${each.name} ${each.addresses}`, each]));
    const targets = nodes.map(row => {
      const key = `${row.name} ${addressText(row)}`;
      const known = kept.get(key);
      kept.delete(key);
      return known ?? this.#target(row);
    });
    for (const { path, outside } of kept.values())
      for (const { number } of [...path, ...outside]) this.#byNumber.delete(number);
    probed.targets.splice(0, Infinity, ...targets);
  }

  #target(row: AddressedNode): Target {
    const address = (ip: string): Address => {
      this.#lastNumber = (this.#lastNumber + 1) >>> 0;
      const made = { ip, number: this.#lastNumber, heard: false, answered: false };
      this.#byNumber.set(made.number, made);
      return made;
    };
    const outside = nodeAddress(row);
    return {
      name: row.name,
      addresses: addressText(row),
      path: internalAddresses(row).map(address),
      outside: outside === undefined ? [] : [address(outside)],
    };
  }

  /** While all is well one address of one target is asked; else all that could tell more. */
  #ask(probed: Probed): void {
    const { targets, belief } = probed;
    const turn = probed.turn++;
    const calm = belief.heard && !belief.silent && belief.suspicion === 0;
    for (const [at, target] of targets.entries()) {
      if (calm && at !== turn % targets.length) continue;
      const best = target.path.find(each => each.heard) ?? target.outside.find(each => each.heard);
      for (const { ip, number } of calm && best ? [best] : [...target.path, ...target.outside])
        this.#options.socket.ask(ip, number);
    }
  }
}

/** In the pod network, as far as it was ever heard there. */
function answers({ path, outside }: Target): boolean {
  const way = path.some(each => each.heard) ? path : [...path, ...outside];
  return way.some(each => each.answered);
}

const addressText = (row: AddressedNode): string =>
  row.addresses.map(({ type, ip }) => `${type}=${ip}`).join();
