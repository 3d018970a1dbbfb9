import { setTimeout as sleep } from 'node:timers/promises';
import { KubeError } from './status.ts';

export interface PulseOptions {
  /** Asks what the API server has to look up in its storage; rejects when `timeout` milliseconds have brought no answer. */
  readonly ask: (timeout: number) => Promise<unknown>;
  /** Everything is followed, so that what changed during a silence has come or is about to. */
  readonly isFollowing: () => boolean;
  /** Milliseconds between two questions while all is well, each up to a tenth more or less. */
  readonly interval: number;
  readonly onChange?: (silent: boolean, reason: string) => void;
  readonly signal: AbortSignal;
  /** Milliseconds for which it has to answer until a silence is over. Default {@link HOLD}. */
  readonly hold?: number;
  /** Milliseconds between two questions while there is no answer. Default {@link AGAIN}. */
  readonly again?: number;
}

/** Milliseconds for an answer. */
const WITHIN = 500;
/** Questions in a row without one that are a silence. */
const MISSES = 2;
/** Milliseconds between two questions while there is none. */
const AGAIN = 250;
/** Long enough for what others have to say after a silence to be written and read. */
const HOLD = 5000;

/**
 * Whether the API server answers this process, as far as that matters: a refusal is an answer, an error of its storage is
 * none. Asked now and then, and at once when somebody has a reason to doubt it.
 */
export class Pulse {
  readonly #options: PulseOptions;
  #silentSince: number | undefined;
  #misses = 0;
  #answersSince: number | undefined;
  #wake = new AbortController();
  readonly done: Promise<void>;

  constructor(options: PulseOptions) {
    this.#options = options;
    this.done = this.#run();
  }

  get silent(): boolean {
    return this.#silentSince !== undefined;
  }

  /** Seconds; undefined while it answers. */
  get silentFor(): number | undefined {
    return this.#silentSince === undefined ? undefined : (performance.now() - this.#silentSince) / 1000;
  }

  /** Asks now, unless it has just been asked. */
  doubt(): void {
    this.#wake.abort();
  }

  async #run(): Promise<void> {
    const { signal, interval, ask, again = AGAIN } = this.#options;
    while (!signal.aborted) {
      const calm = this.#misses === 0 && !this.silent;
      await sleep(again, undefined, { signal }).catch(() => undefined);
      if (calm) {
        const ended = AbortSignal.any([signal, this.#wake.signal]);
        await sleep(interval * (0.9 + Math.random() / 5), undefined, { signal: ended }).catch(
          () => undefined,
        );
      }
      if (signal.aborted) return;
      this.#wake = new AbortController();
      const problem = await ask(WITHIN).then(
        () => undefined,
        (error: unknown) => (isAnswer(error) ? undefined : String(error)),
      );
      if (signal.aborted) return;
      if (problem === undefined) this.#answered();
      else this.#missed(problem);
    }
  }

  #missed(reason: string): void {
    this.#answersSince = undefined;
    this.#misses++;
    if (this.silent || this.#misses < MISSES) return;
    this.#silentSince = performance.now();
    this.#options.onChange?.(true, reason);
  }

  #answered(): void {
    this.#misses = 0;
    this.#answersSince ??= performance.now();
    const { hold = HOLD, isFollowing, onChange } = this.#options;
    if (!this.silent || performance.now() - this.#answersSince < hold || !isFollowing()) return;
    this.#silentSince = undefined;
    onChange?.(false, '');
  }
}

/** One that refuses has looked it up; one that is overloaded, or without its storage, has not. */
const isAnswer = (error: unknown): boolean =>
  error instanceof KubeError && error.code < 500 && error.code !== 429;
