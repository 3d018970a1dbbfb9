import { internalAddresses, type NodeRow, nodeAddress } from '../api/crds/cilium-node.ts';
import {
  formatUnreachable,
  parseUnreachable,
  type Unreachable,
  unreachableAnnotation,
} from '../api/unreachable.ts';
import { type Belief, type BeliefOptions, firstBelief, isFresh, nextBelief } from '../clustermesh/belief.ts';
import {
  clusterProbers,
  clusterTargets,
  probedBy,
  remoteNodeProbers,
  ringOf,
} from '../clustermesh/probers.ts';
import { REMOTE_NODES_BY_CLUSTER, type RemoteHealth, type RemoteNode } from '../clustermesh/rows.ts';
import type { Verdicts } from '../clustermesh/verdict-tables.ts';
import type { Accusation } from '../clustermesh/verdicts.ts';
import { type ReadonlyTable, Table } from '../table/table.ts';
import { nextTurn, turnIsOver } from '../table/turn.ts';

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
  /** Where what this node finds goes while the API server does not answer it: it is the only one who writes there. */
  readonly alone: Table<Accusation>;
  readonly apiServer: {
    readonly silent: boolean;
    /** Somebody does not answer: perhaps it is silent too. */
    doubt(): void;
  };
  /** What is at the other end of the connection to a cluster (`via`) has ceased to answer this node. */
  readonly onSilentVia: (cluster: string) => void;
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
  /** Below {@link STRANGER_EVERY}, so that strangers are not all asked in the same round. */
  readonly phase: number;
  /** In this round. */
  strange: boolean;
  /** In this round. */
  asked: boolean;
  /** What is found is this node's to say; otherwise it is for comparison, or for this node alone. */
  mine: boolean;
  /** It is silent, and others of its cluster are heard: a node of another cluster. */
  accused: boolean;
}

/** Of those that this node alone, or only now and then somebody, wants to know of so many are asked in a round. */
const OTHERS_A_ROUND = 64;

/** Whom to ask before the clock is. */
const PIECE = 32;

/** A cluster that has answered none of so many rounds is a stranger. */
const STRANGE = 10;
/** Of a stranger one address is asked in so many rounds: nothing but its first answer is waited for. */
const STRANGER_EVERY = 5;

type AddressedNode = Pick<NodeRow, 'name' | 'addresses'>;

/**
 * Probes the nodes and clusters that are this node's to probe, a round each time `round` is called. What it finds is in
 * the table `accusation`. A node is asked by its address in the pod network, through the tunnel if there is one:
 * that is what matters. Its address outside is asked while that one has never answered or does not now.
 *
 * A prober that hears none of several neighbours is itself cut off: then it leaves what it said before as it is.
 *
 * Another cluster finds its dead nodes itself. Its nodes are probed one by one only while it is silent, spread over all of ours;
 * and always, by a few, the one that runs its control plane: with that node its voice dies.
 *
 * Whoever carries this agent's own connection to a cluster, a node of it as a rule, is probed by this agent and told to
 * nobody: `onSilentVia`.
 *
 * While the API server does not answer, nobody learns what others find. Then it probes all nodes and clusters, and judges
 * alone, for its own pods: `alone`.
 */
export class Probes {
  readonly accusation: ReadonlyTable<OwnAccusation>;
  readonly #accusation: Table<OwnAccusation>;
  readonly #options: ProbesOptions;
  readonly #nodes = new Map<string, Probed>();
  readonly #clusters = new Map<string, Probed>();
  /** Nodes of other clusters: cluster → node → probed. */
  readonly #remoteNodes = new Map<string, Map<string, Probed>>();
  /** What the connection to each cluster goes to: cluster → probed. */
  readonly #vias = new Map<string, Probed>();
  readonly #byNumber = new Map<number, Address>();
  /** Clusters that were silent before this process began and whose nodes are not known yet. */
  readonly #adopted: Set<string>;
  /** The same for single nodes of them, `cluster/node`. */
  readonly #adoptedNodes: Set<string>;
  #turn = 0;
  #ring: string[] = [];
  #membersChanged = true;
  #dutiesChanged = true;
  /** It probes them all, because the API server is silent. */
  #isAlone = false;
  readonly #clustersChanged = new Set<string>();
  #lastNumber = 0;
  #phase = 0;
  #started = false;
  /** This node hears nobody, and says nothing. */
  doubtful = false;

  constructor(options: ProbesOptions) {
    this.#options = options;
    const { node, nodes, remoteNodes, clusters, verdicts } = options;
    this.#accusation = new Table<OwnAccusation>({
      name: 'own-accusation',
      keyOf: row => row.node,
      equal: (a, b) => a.text === b.text,
    });
    this.accusation = this.#accusation;
    const before = parseUnreachable(nodes.get(node)?.annotations[unreachableAnnotation]);
    this.#adopted = new Set(before.clusters);
    this.#adoptedNodes = new Set(before.remoteNodes);
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
    clusters.subscribe(({ key, before, after }) => {
      if (
        before?.silent !== after?.silent ||
        before?.controlPlaneNode !== after?.controlPlaneNode ||
        before?.via !== after?.via
      )
        this.#clustersChanged.add(key);
    });
  }

  /**
   * Judges by the answers that have come since the last round, and asks again. Resolves when all are asked, after more
   * than one turn of the event loop where these are many: of each other cluster there are some.
   */
  async round(): Promise<void> {
    for (const { targets } of this.#everything())
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
    await this.#takeOnDuties();
    for (const probed of this.#everything()) probed.asked = false;
    let asked = 0;
    for (const probed of this.#inTurn()) {
      this.#ask(probed);
      if (++asked % PIECE === 0 && turnIsOver()) await nextTurn();
    }
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
      ...[...this.#clusters].flatMap(([cluster, probed]) => (probed.mine ? [row(cluster, '', probed)] : [])),
      ...[...this.#remoteNodes].flatMap(([cluster, nodes]) =>
        Array.from(nodes, ([node, probed]) => row(cluster, node, probed)),
      ),
    ];
  }

  #judge(): void {
    const { node, apiServer, alone, onSilentVia } = this.#options;
    // It is asked in time: by when the node counts as silent it is known whether others can be told.
    for (const probed of this.#probes()) if (this.#judgeOne(probed)) apiServer.doubt();
    // So is the other cluster's control plane: what it has to say of that node is heard by another way.
    for (const [cluster, probed] of this.#vias) if (this.#judgeOne(probed)) onSilentVia(cluster);
    const nodes = [...this.#nodes];
    const clusters = [...this.#clusters];
    const hearsNodes = nodes.some(([, { belief }]) => isFresh(belief));
    const hearsClusters = clusters.some(([, { belief }]) => isFresh(belief));
    this.doubtful = nodes.length > 1 && !hearsNodes && !hearsClusters;
    if (this.doubtful) return;
    if (hearsNodes)
      for (const [, probed] of nodes) if (!probed.mine) probed.belief = presumeHeard(probed.belief);
    this.#judgeRemoteNodes();
    const remoteNodes = this.#accusedNodes();
    const found = (counts: (probed: Probed) => boolean): Unreachable => {
      const silent = (list: readonly (readonly [string, Probed])[]): string[] =>
        list.flatMap(([name, probed]) => (probed.belief.silent && counts(probed) ? [name] : []));
      return {
        nodes: silent(nodes),
        clusters: [...silent(clusters), ...this.#adopted],
        remoteNodes: [...silent(remoteNodes), ...this.#adoptedNodes],
      };
    };
    this.#accusation.upsert({ node, text: formatUnreachable(found(({ mine }) => mine)) });
    if (!this.#accusation.synced) this.#accusation.markSynced();
    if (this.#isAlone) alone.upsert({ by: node, ...found(() => true) });
    else alone.delete(node);
  }

  /** Whether it has just ceased to answer. */
  #judgeOne(probed: Probed): boolean {
    if (!probed.asked) return false;
    const { belief: options, now } = this.#options;
    const wasFresh = isFresh(probed.belief);
    probed.belief = nextBelief(probed.belief, probed.targets.some(answers), now(), options);
    return wasFresh && !isFresh(probed.belief);
  }

  /**
   * A node of another cluster is told from a cluster, or a way to it, by others of that cluster that answer. Who answers
   * nobody's ICMP stands for its whole cluster: there is none whom others hear and this one does not.
   */
  #judgeRemoteNodes(): void {
    for (const [cluster, nodes] of this.#remoteNodes) {
      const others = this.#clusters.get(cluster);
      const isHeard = [...nodes.values(), ...(others ? [others] : [])].some(({ belief }) => isFresh(belief));
      const isSilent = this.#options.clusters.get(cluster)?.silent === true;
      for (const probed of nodes.values()) {
        if (isHeard && isSilent) probed.belief = presumeHeard(probed.belief);
        // Once said it holds until the node answers.
        probed.accused = probed.belief.silent && (probed.accused || isHeard);
      }
    }
  }

  #accusedNodes(): (readonly [string, Probed])[] {
    return [...this.#remoteNodes].flatMap(([cluster, nodes]) =>
      Array.from(nodes, ([node, probed]) => [`${cluster}/${node}`, probed] as const).filter(
        ([, { accused }]) => accused,
      ),
    );
  }

  async #takeOnDuties(): Promise<void> {
    const { node, nodes, clusters, verdicts, apiServer } = this.#options;
    const dead = (name: string): boolean => verdicts.nodes.get(name)?.dead === true;
    if (this.#isAlone !== apiServer.silent) this.#dutiesChanged = true;
    this.#isAlone = apiServer.silent;
    if (this.#membersChanged) this.#ring = ringOf(nodes.keys());
    const everything = this.#membersChanged || this.#dutiesChanged;
    this.#membersChanged = false;
    this.#dutiesChanged = false;
    if (everything) {
      const duties = new Set(probedBy(this.#ring, node, dead));
      // Whom it found silent it goes on to probe: its word would be missed.
      for (const [name, { belief, mine }] of this.#nodes) if (belief.silent && mine) duties.add(name);
      const wanted = this.#isAlone ? new Set(nodes.keys()) : duties;
      wanted.delete(node);
      for (const name of this.#nodes.keys())
        if (!wanted.has(name) || !nodes.has(name)) {
          this.#aim(this.#nodes.get(name)!, []);
          this.#nodes.delete(name);
        }
      for (const name of wanted) {
        const row = nodes.get(name);
        if (!row) continue;
        const probed = this.#nodes.get(name) ?? this.#probed(dead(name));
        probed.mine = duties.has(name);
        this.#nodes.set(name, probed);
        this.#aim(probed, [row]);
      }
    }
    const known = new Set(
      everything ? [...clusters.keys(), ...this.#clusters.keys()] : this.#clustersChanged,
    );
    this.#clustersChanged.clear();
    // All nodes of each are looked at: with hundreds of clusters these are tens of thousands.
    for (const cluster of known) {
      this.#takeOnCluster(cluster, dead);
      if (turnIsOver()) await nextTurn();
    }
    for (const cluster of this.#adopted) if (!clusters.has(cluster)) this.#adopted.delete(cluster);
    for (const name of this.#adoptedNodes)
      if (!clusters.has(name.split('/')[0]!)) this.#adoptedNodes.delete(name);
  }

  #takeOnCluster(cluster: string, dead: (node: string) => boolean): void {
    const { node, clusters, remoteNodes, verdicts } = this.#options;
    const present = this.#clusters.get(cluster);
    const mine =
      (present?.mine && present.belief.silent) || clusterProbers(cluster, this.#ring, dead).includes(node);
    const health = clusters.get(cluster);
    this.#probeVia(cluster, health?.via ?? '');
    const theirs = new Map(
      Array.from(
        mine || this.#isAlone || health?.silent ? remoteNodes.by(REMOTE_NODES_BY_CLUSTER, cluster) : [],
        row => [row.name, row],
      ),
    );
    /** Each node that is probed singly, and whether what is found is ours to say. */
    const single = new Map<string, boolean>();
    if (mine && health && theirs.has(health.controlPlaneNode)) single.set(health.controlPlaneNode, true);
    if (health?.silent)
      for (const name of theirs.keys()) {
        const known = this.#remoteNodes.get(cluster)?.get(name);
        const isDuty =
          (known?.belief.silent && known.mine) ||
          remoteNodeProbers(cluster, name, this.#ring, dead).includes(node);
        if (isDuty || this.#isAlone) single.set(name, single.get(name) || isDuty);
      }
    this.#probeSingly(cluster, single, theirs);
    if (theirs.size === 0) {
      if (present) this.#aim(present, []);
      this.#clusters.delete(cluster);
      return;
    }
    const probed =
      present ?? this.#probed(this.#adopted.has(cluster) || verdicts.clusters.get(cluster)?.agreed === true);
    this.#adopted.delete(cluster);
    probed.mine = mine;
    this.#clusters.set(cluster, probed);
    this.#aim(
      probed,
      clusterTargets(node, cluster, theirs.keys()).map(name => theirs.get(name)!),
    );
  }

  /** Another address is another way, of which nothing is known. */
  #probeVia(cluster: string, ip: string): void {
    const present = this.#vias.get(cluster);
    if (present?.targets[0]?.name === ip) return;
    if (present) this.#aim(present, []);
    this.#vias.delete(cluster);
    if (ip === '') return;
    const probed = this.#probed(false);
    probed.mine = false;
    this.#vias.set(cluster, probed);
    this.#aim(probed, [{ name: ip, addresses: [{ type: 'InternalIP', ip }] }]);
  }

  #probeSingly(
    cluster: string,
    names: ReadonlyMap<string, boolean>,
    theirs: ReadonlyMap<string, AddressedNode>,
  ): void {
    const probed = this.#remoteNodes.get(cluster) ?? new Map<string, Probed>();
    for (const [name, each] of probed)
      if (!names.has(name)) {
        this.#aim(each, []);
        probed.delete(name);
      }
    const { remoteNodes, verdicts } = this.#options;
    for (const [name, mine] of names) {
      const key = `${cluster}/${name}`;
      const silent = this.#adoptedNodes.has(key) || (this.#isAlone && verdicts.remoteNodes.get(key)?.agreed);
      const each = probed.get(name) ?? { ...this.#probed(silent === true), accused: silent === true };
      each.mine = mine;
      probed.set(name, each);
      this.#aim(each, [theirs.get(name)!]);
    }
    const known = remoteNodes.by(REMOTE_NODES_BY_CLUSTER, cluster)[Symbol.iterator]().next().done === false;
    for (const name of known ? this.#adoptedNodes : [])
      if (name.startsWith(`${cluster}/`)) this.#adoptedNodes.delete(name);
    if (probed.size) this.#remoteNodes.set(cluster, probed);
    else this.#remoteNodes.delete(cluster);
  }

  /** What this node is to find out, and who may be falling silent, in every round; the others in turns. */
  #inTurn(): Probed[] {
    const chosen: Probed[] = [];
    const others: Probed[] = [];
    const take = (probed: Probed, isMine: boolean): void => {
      const { heard, silent, suspicion } = probed.belief;
      if (isMine || (heard && !silent && suspicion > 0)) chosen.push(probed);
      else others.push(probed);
    };
    for (const probed of this.#nodes.values()) take(probed, probed.mine);
    const takeUnlessStrange = (cluster: string, probed: Probed, isMine: boolean): void => {
      probed.strange = this.#isStrange(cluster, probed);
      if (!probed.strange) take(probed, isMine);
      else if (++probed.turn % STRANGER_EVERY === probed.phase) chosen.push(probed);
    };
    for (const [cluster, probed] of this.#clusters)
      takeUnlessStrange(cluster, probed, probed.mine || !this.#isAlone);
    for (const nodes of this.#remoteNodes.values()) for (const probed of nodes.values()) take(probed, false);
    for (const [cluster, probed] of this.#vias) takeUnlessStrange(cluster, probed, false);
    const count = Math.min(others.length, OTHERS_A_ROUND);
    for (let at = 0; at < count; at++) chosen.push(others[(this.#turn + at) % others.length]!);
    this.#turn = others.length ? (this.#turn + count) % others.length : 0;
    return chosen;
  }

  /**
   * It never answered, and nobody waits for its word: who was never heard cannot fall silent. While its control plane says
   * nothing either, every answer counts.
   */
  #isStrange(cluster: string, { belief, turn }: Probed): boolean {
    return !belief.heard && turn >= STRANGE && this.#options.clusters.get(cluster)?.silent !== true;
  }

  /** Those that a verdict may be about. */
  *#probes(): Generator<Probed> {
    yield* this.#nodes.values();
    yield* this.#clusters.values();
    for (const nodes of this.#remoteNodes.values()) yield* nodes.values();
  }

  *#everything(): Generator<Probed> {
    yield* this.#probes();
    yield* this.#vias.values();
  }

  #probed(silent: boolean): Probed {
    return {
      targets: [],
      belief: firstBelief(this.#options.belief, silent),
      turn: 0,
      phase: this.#phase++ % STRANGER_EVERY,
      strange: false,
      asked: false,
      mine: true,
      accused: false,
    };
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

  /** While all is well one address of one target is asked, and of a stranger; else all that could tell more. */
  #ask(probed: Probed): void {
    const { targets, belief } = probed;
    probed.asked = true;
    if (probed.strange) {
      const all = targets.flatMap(({ path, outside }) => [...path, ...outside]);
      const next = all[Math.floor(probed.turn / STRANGER_EVERY) % all.length];
      if (next) this.#options.socket.ask(next.ip, next.number);
      return;
    }
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

/**
 * When the round after the one that was to begin at `due` begins, all in milliseconds. On a busy machine rounds begin late:
 * then the next one comes sooner, or five of them would take longer than is promised. Whoever is asked has half an
 * interval to answer at the least.
 */
export const nextRoundAt = (due: number, now: number, interval: number): number =>
  Math.max(due + interval, now + interval / 2);

/**
 * Of somebody whom this node has only begun to probe, for want of others' word, and never heard. That others are heard says
 * that ICMP is not what is missing.
 */
const presumeHeard = (belief: Belief): Belief => (belief.heard ? belief : { ...belief, heard: true });

/** In the pod network, as far as it was ever heard there. */
function answers({ path, outside }: Target): boolean {
  const way = path.some(each => each.heard) ? path : [...path, ...outside];
  return way.some(each => each.answered);
}

const addressText = (row: AddressedNode): string =>
  row.addresses.map(({ type, ip }) => `${type}=${ip}`).join();
