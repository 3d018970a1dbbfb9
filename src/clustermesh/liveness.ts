import { Code, ConnectError } from '@connectrpc/connect';
import type { EtcdConnection } from '../kvstore/connection.ts';
import { EtcdFailure } from '../kvstore/failure.ts';
import { encodeKey } from '../kvstore/range.ts';
import { pause } from '../kvstore/session.ts';
import { clusterConfigKey } from './layout.ts';
import type { Relay } from './mirror-report.ts';
import type { ClusterVerdict, RemoteNodeVerdict } from './verdicts.ts';

/** Milliseconds within which a control plane has to answer a question while none of its nodes answers probes. */
const answerWithin = 500;
/** Milliseconds between looks at a cluster that is dead or may be. */
const lookEvery = 250;
/** Milliseconds for which a control plane has to answer after somebody fell silent who may carry what it says. */
const questionFor = 3000;
/** Milliseconds after the first attempt to connect before which an absent connection means nothing. */
const grace = 3000;
/** Milliseconds for which nodes of a cluster that was dead answer again until it is used without its control plane. */
const trustNodesAfter = 30_000;

/** How a cluster is heard at this moment. */
export interface Hearing {
  readonly connection: EtcdConnection | undefined;
  /** What the mirror of the copy that is read says of the original; undefined where the original is read. */
  readonly relay: Relay | undefined;
  /** There was a connection, and it was lost. */
  readonly wasLost: boolean;
  /** Everything has been read on the present connection. */
  readonly isConfirmed: boolean;
}

export interface LivenessOptions {
  readonly cluster: string;
  readonly hearing: () => Hearing;
  readonly onDead: (dead: boolean) => void;
  readonly onChange: () => void;
  readonly signal: AbortSignal;
}

/**
 * Whether one remote cluster is alive. It is dead when both signs are missing: none of its nodes answers our probes, and
 * its control plane does not answer either. It is trusted again once it has told everything anew, or its nodes have
 * answered for long.
 */
export class Liveness {
  readonly #options: LivenessOptions;
  readonly #startedAt = performance.now();
  /** Own nodes that say that no node of it answers. */
  #unheardBy: readonly string[] = [];
  /** At least one of our nodes says so. */
  #doubted = false;
  /** Nodes of it that ours do not hear. */
  #accused: readonly RemoteNodeVerdict[] = [];
  /** Until when its control plane is asked because one of them fell silent, and the connection that it may have held. */
  #questionedUntil = 0;
  #suspect: EtcdConnection | undefined;
  /** While it is doubted: its control plane did not answer when it was last asked. */
  #isSilent = false;
  /** When nodes of it were last said not to answer. */
  #unheardUntil = 0;
  #deadSince: number | undefined;
  #examining = false;

  constructor(options: LivenessOptions) {
    this.#options = options;
  }

  get unheardBy(): readonly string[] {
    return this.#unheardBy;
  }

  get unheardUntil(): number {
    return this.#unheardUntil;
  }

  get accused(): readonly RemoteNodeVerdict[] {
    return this.#accused;
  }

  get deadSince(): number | undefined {
    return this.#deadSince;
  }

  /** Its control plane, or a mirror's, answers as far as is known now. A process that has just begun knows nothing. */
  get answers(): boolean {
    if (this.#isSilent) return false;
    const { connection, relay, wasLost } = this.#options.hearing();
    if (connection) return relay?.answers ?? true;
    return !wasLost && performance.now() - this.#startedAt < grace;
  }

  /**
   * Takes what our nodes say of its nodes; undefined: they are heard. Silent nodes are half of a verdict: the control
   * plane is asked for the other half, from the first word against them on.
   */
  unheard(verdict: ClusterVerdict | undefined): void {
    const by = verdict?.agreed ? verdict.by : [];
    if (this.#unheardBy.length && !by.length) this.#unheardUntil = performance.now();
    this.#unheardBy = by;
    this.#doubted = verdict !== undefined;
    if (this.#isSilent && by.length) this.#setDead(true);
    if (this.#doubted && !this.#examining) void this.#examine();
  }

  /**
   * Takes what our nodes say of single nodes of it: with each new one its control plane, which may have been there, is asked
   * whether it can still speak.
   */
  accuse(nodes: readonly RemoteNodeVerdict[]): void {
    const known = new Set(this.#accused.map(({ node }) => node));
    this.#accused = nodes;
    if (!nodes.every(({ node }) => known.has(node))) this.question();
  }

  /** Somebody fell silent who may carry the connection: it is tried now, and given up if there is no answer by it. */
  question(): void {
    this.#questionedUntil = performance.now() + questionFor;
    this.#suspect = this.#options.hearing().connection;
    if (!this.#examining) void this.#examine();
  }

  /** A new connection is being read. */
  connected(): void {
    this.#setSilent(false);
  }

  /** The mirror of the copy that is read has said how it hears the original. */
  reported(relay: Relay): void {
    if (this.#doubted && !relay.answers) this.#setSilent(true);
  }

  /** Its control plane is asked: none of its nodes is heard, or one has just fallen silent that may have run it. */
  get #questioned(): boolean {
    // What a mirror says it says again when it changes.
    const unanswered = this.#isSilent && this.#options.hearing().relay === undefined;
    return this.#doubted || unanswered || performance.now() < this.#questionedUntil;
  }

  /** Runs while it is questioned, and until it is trusted again after that made it dead. */
  async #examine(): Promise<void> {
    const { signal, hearing } = this.#options;
    this.#examining = true;
    while (!signal.aborted && (this.#questioned || this.#deadSince !== undefined)) {
      const { connection } = hearing();
      const answered = !this.#questioned || (await this.#etcdAnswers());
      this.#setSilent(this.#questioned && !(answered && (hearing().relay?.answers ?? true)));
      // So that it is made anew at once, and with another replica if there is one, not when TCP has given up.
      if (!answered && connection && (this.#deadSince !== undefined || connection === this.#suspect))
        connection.close(new EtcdFailure('etcd', `no answer within ${answerWithin} ms`));
      if (!this.#unheardBy.length && this.#deadSince !== undefined) {
        const { isConfirmed, relay } = hearing();
        const confirmed = isConfirmed && (relay === undefined || relay.state === 'ready');
        if (confirmed || performance.now() - this.#unheardUntil > trustNodesAfter) this.#setDead(false);
      }
      await pause(lookEvery, signal);
    }
    this.#setSilent(false);
    this.#examining = false;
  }

  /** Whether the etcd that is read answers now. */
  async #etcdAnswers(): Promise<boolean> {
    const { connection } = this.#options.hearing();
    if (!connection) return this.answers;
    try {
      await connection.kv.range(
        { key: encodeKey(clusterConfigKey(this.#options.cluster)) },
        { timeoutMs: answerWithin },
      );
      return true;
    } catch (error) {
      // A refusal is an answer.
      const code = error instanceof ConnectError ? error.code : undefined;
      return code !== Code.DeadlineExceeded && code !== Code.Unavailable && !connection.lost.aborted;
    }
  }

  #setSilent(silent: boolean): void {
    const changed = silent !== this.#isSilent;
    this.#isSilent = silent;
    if (silent && this.#unheardBy.length) this.#setDead(true);
    if (changed) this.#options.onChange();
  }

  #setDead(dead: boolean): void {
    if (dead === (this.#deadSince !== undefined)) return;
    this.#deadSince = dead ? performance.now() : undefined;
    this.#options.onDead(dead);
    this.#options.onChange();
  }
}
