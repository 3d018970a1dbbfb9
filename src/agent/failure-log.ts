import type { Logger } from '../log.ts';

/** Lines in each period of so many milliseconds. */
const LINES = 10;
const PERIOD = 10_000;

/**
 * Tells of rows that cannot be written: a few of them. Where a map is full they are as many as do not fit, again and
 * again, and a line for each would cost more than all other work; how many there are stands in metrics and status.
 */
export class FailureLog {
  readonly #log: Pick<Logger, 'warn'>;
  readonly #now: () => number;
  #began = Number.NEGATIVE_INFINITY;
  #lines = 0;
  #unsaid = 0;

  constructor(log: Pick<Logger, 'warn'>, now: () => number = () => performance.now()) {
    this.#log = log;
    this.#now = now;
  }

  say(what: string, key: string, error: Error, attempt: number): void {
    const now = this.#now();
    if (now - this.#began > PERIOD) {
      if (this.#unsaid) this.#log.warn({ failures: this.#unsaid }, 'more could not be written');
      this.#began = now;
      this.#lines = 0;
      this.#unsaid = 0;
    }
    if (++this.#lines > LINES) this.#unsaid++;
    else
      this.#log.warn({ what, key, attempt, error: error.message }, 'cannot be written, will be tried again');
  }
}
